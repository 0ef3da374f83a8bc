# Sentinel and dbt, for a dbt project that is mounted at /project or copied there.
#
#   docker build -t sentinel .
#   docker build -t sentinel --build-arg WAREHOUSES="duckdb postgres bigquery" .
#
# docs/how-to/deploy-with-docker.md says how it is run.
# By digest, so that the same image is built tomorrow; `make digests` writes the present ones.
ARG PYTHON=3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM python:${PYTHON} AS build
# Names of locks in deploy/docker: duckdb is always there; postgres, bigquery.
ARG WAREHOUSES="duckdb postgres"
# What channels need beyond that: apprise.
ARG CHANNELS=""
WORKDIR /build
COPY deploy/docker deploy/docker
# hadolint ignore=SC2086
RUN python deploy/docker/install.py packages /opt/sentinel ${WAREHOUSES} ${CHANNELS}
COPY . .
RUN python deploy/docker/install.py sentinel /opt/sentinel . \
    && python deploy/docker/install.py slim /opt/sentinel \
    && python deploy/docker/install.py rehearse /opt/sentinel

FROM python:${PYTHON} AS image
# By number, so that Kubernetes can see that it isn't root.
RUN groupadd --gid 10001 sentinel \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/sentinel sentinel \
    && install --directory --owner 10001 --group 10001 /project /var/lib/sentinel
COPY --from=build /opt/sentinel /opt/sentinel
# Only /var/lib/sentinel and /tmp have to be writable: the rest may be read-only, and so may the
# project, unless its profile has a database file there.
ENV PATH=/opt/sentinel/bin:$PATH \
    HOME=/var/lib/sentinel \
    PYTHONPYCACHEPREFIX=/opt/sentinel/bytecode \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DBT_SEND_ANONYMOUS_USAGE_STATS=false \
    DBT_TARGET_PATH=/var/lib/sentinel/target \
    DBT_LOG_PATH=/var/lib/sentinel/logs \
    SENTINEL_DAEMON_HOST=0.0.0.0 \
    SENTINEL_DAEMON_LOG_FORMAT=json
USER 10001:10001
WORKDIR /project
VOLUME /var/lib/sentinel
EXPOSE 8642
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["sentinel", "healthcheck"]
ENTRYPOINT ["sentinel"]
CMD ["daemon"]
