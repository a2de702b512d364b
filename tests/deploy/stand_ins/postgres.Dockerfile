# Debian's PostgreSQL, for machines that reach no registry.
FROM gatewise-test-postgres
COPY postgres.sh /entrypoint
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
ENTRYPOINT ["/entrypoint"]
