# sightline in a container: docs/container.md tells how to build, start and update it.
#
#   docker build -t sightline .
#   docker run -p 127.0.0.1:8888:8888 -v sightline:/home/sightline/.cache/sightline sightline

ARG BASE=docker.io/library/python:3.12-slim
FROM ${BASE}

# Empty: PyTorch for the CPU. "torch" brings CUDA with it, for NVIDIA's cards.
ARG TORCH=

# The compiler makes our own kernels now, and Triton's on a card at every first start.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 sightline \
    && install -d -o sightline -g sightline /home/sightline/.cache/sightline

WORKDIR /opt/sightline
COPY . .
RUN if [ -n "$TORCH" ]; then \
        python3 -m venv .venv && .venv/bin/python -m pip install --no-cache-dir "$TORCH"; \
    fi \
    && PIP_NO_CACHE_DIR=1 python3 scripts/install.py run \
    && ln -s /opt/sightline/.venv/bin/sightline /usr/local/bin/sightline

USER sightline
WORKDIR /home/sightline
# Models that were downloaded stay when the container goes.
VOLUME /home/sightline/.cache/sightline
EXPOSE 8888
# A large model takes minutes to load, and more to download.
HEALTHCHECK --interval=10s --timeout=5s --start-period=2h \
    CMD ["/opt/sightline/.venv/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8888/ready', timeout=4)"]
ENTRYPOINT ["sightline"]
CMD ["serve", "--host", "0.0.0.0"]
