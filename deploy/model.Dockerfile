# An image of the service with one model inside; its context is the artifact's folder. `make image MODEL=name:version`.
ARG SERVICE=gatewise
# hadolint ignore=DL3006
FROM ${SERVICE}
COPY . /model
ENV GATEWISE_MODEL=/model
