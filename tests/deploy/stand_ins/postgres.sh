#!/bin/sh
# What the real image's entrypoint does with these variables, as far as the stack needs it.
set -eu
data=/var/lib/postgresql/data
bin=$(dirname /usr/lib/postgresql/*/bin/initdb)
mkdir -p $data && chown -R postgres $data
as() { runuser -u postgres -- "$@"; }
if [ ! -e $data/PG_VERSION ]; then
  echo "$POSTGRES_PASSWORD" > /tmp/password
  as $bin/initdb -D $data -U "$POSTGRES_USER" -A scram-sha-256 --pwfile /tmp/password -E UTF8 > /dev/null
  echo "CREATE DATABASE $POSTGRES_DB" | as $bin/postgres --single -D $data postgres > /dev/null
  echo "host all all all scram-sha-256" >> $data/pg_hba.conf
fi
exec runuser -u postgres -- $bin/postgres -D $data -c listen_addresses='*' -c unix_socket_directories=/tmp
