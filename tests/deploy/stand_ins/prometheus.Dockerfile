# Debian's Prometheus, for machines that reach no registry.
FROM gatewise-test-prometheus
ENTRYPOINT ["prometheus"]
