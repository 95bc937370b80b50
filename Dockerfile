# Targets: cpu (the default) and cuda are the service; loadtest is the load generator. See docs/containers.md.

# The environment, by the lock file: wheels only, so that nothing of a third party is built or run here.
FROM python:3.11.14-slim-bookworm AS locked
WORKDIR /src
COPY requirements/serve.txt requirements/
RUN python -m venv --without-pip /opt/timeconv \
    && pip --python /opt/timeconv/bin/python install --no-cache-dir --only-binary=:all: --no-deps --require-hashes \
        --requirement requirements/serve.txt

FROM locked AS wheel
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY service service
COPY client client
COPY model_store model_store
RUN /opt/timeconv/bin/python -m build --no-isolation --wheel --outdir /dist .

# What builds wheels has no place where they run.
FROM locked AS installed
COPY --from=wheel /dist /dist
RUN pip --python /opt/timeconv/bin/python install --no-cache-dir --no-deps /dist/*.whl \
    && pip --python /opt/timeconv/bin/python uninstall --yes build hatchling

# NVIDIA's libraries come before the service's own code: gigabytes that change with the lock file alone.
FROM locked AS installed-cuda
COPY requirements/cuda.txt requirements/
RUN pip --python /opt/timeconv/bin/python install --no-cache-dir --only-binary=:all: --no-deps --require-hashes \
    --requirement requirements/cuda.txt
COPY --from=wheel /dist /dist
RUN pip --python /opt/timeconv/bin/python install --no-cache-dir --no-deps /dist/*.whl \
    && pip --python /opt/timeconv/bin/python uninstall --yes build hatchling

FROM installed AS installed-loadtest
COPY requirements/test.txt requirements/
RUN pip --python /opt/timeconv/bin/python install --no-cache-dir --only-binary=:all: --no-deps --require-hashes \
    --requirement requirements/test.txt

# The user is a number, so that Kubernetes' runAsNonRoot can see that it is not root.
FROM python:3.11.14-slim-bookworm AS runtime
RUN groupadd --gid 10001 timeconv \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin timeconv \
    && install --directory --owner=10001 --group=10001 /var/cache/timeconv /var/lib/timeconv
# ONNX Runtime would write down what it runs, and send it to its makers.
ENV PATH=/opt/timeconv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOME=/tmp ORT_DISABLE_TELEMETRY=1
USER 10001:10001

FROM runtime AS loadtest
COPY --from=installed-loadtest /opt/timeconv /opt/timeconv
COPY loadtest /opt/loadtest/loadtest
# Its reports say where they come from.
COPY training/__init__.py training/provenance.py /opt/loadtest/training/
ENV PYTHONPATH=/opt/loadtest MPLCONFIGDIR=/tmp
WORKDIR /var/lib/timeconv
ENTRYPOINT ["python", "-m", "loadtest.load"]

# Without keys the service takes no address but the loopback, so the image alone does not start: see docs/containers.md.
FROM runtime AS served
ENV TIMECONV_HOST=0.0.0.0 TIMECONV_PORT=8000 TIMECONV_LOG_FORMAT=json
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, sys; from http.client import HTTPConnection; ask = HTTPConnection('127.0.0.1', int(os.environ.get('TIMECONV_OPS_PORT', 0)) or int(os.environ['TIMECONV_PORT']), timeout=4); ask.request('GET', '/healthz'); sys.exit(ask.getresponse().status != 200)"]
ENTRYPOINT ["timeconv", "serve"]

FROM served AS cuda
COPY --from=installed-cuda /opt/timeconv /opt/timeconv
# The driver's libraries are the host's: the NVIDIA container runtime mounts what these two variables ask for.
ENV TIMECONV_DEVICE=cuda TIMECONV_ENGINE_CACHE=/var/cache/timeconv CUDA_CACHE_PATH=/var/cache/timeconv/cuda \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /var/cache/timeconv

FROM served AS cpu
COPY --from=installed /opt/timeconv /opt/timeconv
ENV TIMECONV_DEVICE=cpu
