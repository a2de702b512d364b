# Two images: `docker build .` makes the service; `docker build --target training .` makes the training job.
#
#   ACCELERATOR=cpu  the service answers with ONNX Runtime alone, without torch
#   ACCELERATOR=gpu  torch and its CUDA libraries come with it (4.4 GB), and are used where a GPU is seen
#   EXTRAS           what the service installs; `service` alone leaves out what POST /feedback stores by
#   PYTHON_IMAGE     may name a digest, for builds that are the same each time: python:3.11-slim@sha256:...
#   PIP_FLAGS        passed to pip, such as the index of torch's CPU wheels for the training image
#   VERSION REVISION labels; `make image` knows them
#
# docker run -p 3000:3000 -v gatewise-store:/store -e GATEWISE_MODEL=questions:production --read-only --tmpfs /tmp IMAGE
ARG PYTHON_IMAGE=python:3.11-slim
ARG ACCELERATOR=cpu

# Fills a virtualenv that the images copy. It has no pip of its own: the base image's fills it from outside.
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/gatewise
COPY pyproject.toml constraints.txt ./

# Dependencies first, asked for by an empty package: a change of code or text does not install them again. `build` goes,
# or its empty __init__.py, newer than the real one, would be installed instead.
FROM build AS service-dependencies
ARG ACCELERATOR
ARG EXTRAS=service,feedback
ARG PIP_FLAGS=""
RUN mkdir gatewise && touch gatewise/__init__.py README.md LICENSE
# PIP_FLAGS holds several words. Tests of the packages, and bytecode of what is never imported, are a quarter of it all.
# Triton, which torch does without, needs a C compiler when it runs, and the image has none.
# hadolint ignore=SC2086
RUN case "${ACCELERATOR}" in \
      cpu) torch="" ;; \
      gpu) torch=torch ;; \
      *) echo "ACCELERATOR is cpu or gpu, not ${ACCELERATOR}" >&2; exit 1 ;; \
    esac \
    && pip --python /opt/gatewise/bin/python install --no-compile ${PIP_FLAGS} -c constraints.txt ".[${EXTRAS}]" ${torch} \
    && rm -rf build \
    && pip --python /opt/gatewise/bin/python uninstall --yes triton \
    && find /opt/gatewise -type d -name tests -prune -exec rm -rf {} +

FROM build AS training-dependencies
ARG PIP_FLAGS=""
RUN mkdir gatewise && touch gatewise/__init__.py README.md LICENSE
# Tests (torch's are programs in its bin), headers, and bytecode of what is never imported are a third of it all. For an
# image below 1.3 GB, what only TensorBoard's page, its images, Hugging Face's hub and Arrow's Flight need goes too.
# hadolint ignore=SC2086
RUN pip --python /opt/gatewise/bin/python install --no-compile ${PIP_FLAGS} -c constraints.txt ".[training,feedback]" \
    && rm -rf build \
    && pip --python /opt/gatewise/bin/python uninstall --yes tensorboard-data-server grpcio pillow hf-xet \
    && find /opt/gatewise -type d \( -name tests -o -name test -o -name include \) -prune -exec rm -rf {} + \
    && find /opt/gatewise -path "*/torch/bin/*" -type f ! -name torch_shm_manager -delete \
    && find /opt/gatewise -path "*/pyarrow/*" -name "*flight*" -delete

FROM service-dependencies AS service-build
ARG PIP_FLAGS=""
COPY README.md LICENSE ./
COPY gatewise gatewise
COPY service service
# What a service imports is compiled here: its root is read-only when it runs.
# hadolint ignore=SC2086
RUN pip --python /opt/gatewise/bin/python install --no-compile ${PIP_FLAGS} --no-deps --force-reinstall . \
    && /opt/gatewise/bin/python -P -c "import importlib.util, gatewise.cli, gatewise.predictor, service.app, bentoml_cli.cli, \
         _bentoml_impl.worker.service; importlib.util.find_spec('sqlalchemy') and __import__('gatewise.feedback'); \
         importlib.util.find_spec('torch') and __import__('gatewise.torch_engine')"

FROM training-dependencies AS training-build
ARG PIP_FLAGS=""
COPY README.md LICENSE ./
COPY gatewise gatewise
COPY training training
# What a training imports is compiled here, too.
# hadolint ignore=SC2086
RUN pip --python /opt/gatewise/bin/python install --no-compile ${PIP_FLAGS} --no-deps --force-reinstall . \
    && /opt/gatewise/bin/python -P -c "import pkgutil, training, gatewise.cli, gatewise.feedback, pyarrow.parquet; \
         [__import__(found.name) for found in pkgutil.walk_packages(training.__path__, 'training.')]"

# What both images share at run time.
FROM ${PYTHON_IMAGE} AS runtime
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gatewise" \
      org.opencontainers.image.description="LSTM and GRU sequence classifiers behind HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# HOME is where libraries that insist on a cache find a place when the root is read-only and /tmp is not.
ENV PATH=/opt/gatewise/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BENTOML_HOME=/store \
    BENTOML_DO_NOT_TRACK=True \
    HOME=/tmp
RUN mkdir /store /work && chown 10001:10001 /store /work
VOLUME /store
WORKDIR /work
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001

FROM runtime AS training
LABEL org.opencontainers.image.title="gatewise-training"
COPY --from=training-build /opt/gatewise /opt/gatewise
ENTRYPOINT ["gatewise"]
CMD ["train", "--help"]

FROM runtime AS service
LABEL org.opencontainers.image.title="gatewise-service"
COPY --from=service-build /opt/gatewise /opt/gatewise
# GATEWISE_MODEL: what to serve, as name, name:version, name:production or an artifact's folder.
# GATEWISE_DEVICE: CUDA where torch is installed and sees a GPU, else the CPU.
# One thread for a process: a second one gains nothing on small batches, and fights with its neighbours.
ENV GATEWISE_MODEL="" \
    GATEWISE_DEVICE=auto \
    OMP_NUM_THREADS=1
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/readyz', timeout=2).close()"]
ENTRYPOINT ["gatewise"]
CMD ["serve", "--host", "0.0.0.0", "--port", "3000"]
