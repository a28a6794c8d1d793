# m2fp-stream's kiosk without a desktop around it: camera in, page out. docs/container.md says how
# to run it; compose.yaml does it with everything closed that it does not need.
#
#     docker build -t m2fp-stream .
#     docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --network none m2fp-stream doctor

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
# The wheel is made of these alone; .dockerignore keeps everything else out of the context.
COPY pyproject.toml README.md LICENSE ./
COPY m2fp_stream ./m2fp_stream
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/m2fp-stream \
    && python -m pip --python /opt/m2fp-stream/bin/python install --no-cache-dir \
        "$(echo /wheels/m2fp_stream-*.whl)[web]" \
    # Feeds virtual cameras, is under the GPL, and has no use here: no build may contain it.
    && ! /opt/m2fp-stream/bin/python -c "import pyvirtualcam" 2>/dev/null \
    && /opt/m2fp-stream/bin/python -m compileall -q /opt/m2fp-stream/lib

FROM python:3.11-slim-bookworm
# OpenCV's wheel is linked against these and does not bring them.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 libxcb1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin mirror
COPY --from=build /opt/m2fp-stream /opt/m2fp-stream
# The only places anything is written to are below /tmp, which is memory (tmpfs).
ENV PATH=/opt/m2fp-stream/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HEALTH_URL=http://127.0.0.1:8765/healthz
USER 10001:10001
WORKDIR /tmp
EXPOSE 8765
STOPSIGNAL SIGTERM
# /healthz says nothing but that the page's server answers. The certificate is not checked here: it
# is our own, on our own loopback.
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "-I", "-c", "import os, ssl, urllib.request as r; r.urlopen(os.environ['HEALTH_URL'], timeout=3, context=ssl._create_unverified_context())"]
ENTRYPOINT ["m2fp-stream"]
CMD ["kiosk", "--no-browser"]
