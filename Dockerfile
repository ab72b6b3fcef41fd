# docker build -t mbusd .       amd64, arm64, arm/v7. Nothing is compiled; docker-compose.yaml shows how to run it.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY requirements.lock ./
# --require-hashes: what is not in the lock file does not get in
RUN pip wheel --no-cache-dir --require-hashes --requirement requirements.lock --wheel-dir /wheels
COPY pyproject.toml README.md LICENSE ./
COPY mbusd mbusd
# The build backend stays here: of the wheels, the new environment takes mbusd and what it needs
RUN pip install --no-cache-dir --no-index --find-links /wheels hatchling \
    && pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/mbusd \
    && pip --python /opt/mbusd/bin/python install --no-cache-dir --no-index --find-links /wheels mbusd

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="mbusd" \
      org.opencontainers.image.description="M-Bus master: meters to MQTT and Home Assistant" \
      org.opencontainers.image.licenses="MIT"
# Serial ports belong to dialout, on Debian as on most hosts; docker-compose.yaml says what to do on the others
RUN useradd --system --no-create-home --shell /usr/sbin/nologin --groups dialout mbusd \
    && install -d -o mbusd -g mbusd /var/lib/mbusd
COPY --from=build /opt/mbusd /opt/mbusd
COPY docker/healthcheck.py /opt/mbusd/healthcheck.py
ENV PATH=/opt/mbusd/bin:$PATH PYTHONUNBUFFERED=1 STATE_DIRECTORY=/var/lib/mbusd
USER mbusd
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["python", "/opt/mbusd/healthcheck.py"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["mbusd"]
# /etc/mbusd/config.yaml where there is one, and MBUSD_* variables
CMD ["run"]
