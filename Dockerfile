# ddmseg with PyTorch for the CPU, for Docker, Podman and Apptainer; how to use it: docs/install.md
FROM debian:bookworm-slim AS python
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

FROM python AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python
LABEL org.opencontainers.image.title="ddmseg" \
      org.opencontainers.image.description="Brain MRI segmentation; research software, not a medical device" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-4.0"

# First and alone, as in the Makefile: it is the large layer, and a change of ddmseg keeps it.
ARG TORCH=torch==2.13.0
RUN python3 -m venv /opt/ddmseg \
 && /opt/ddmseg/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "$TORCH"

# The versions that were tested. None but the extras that are named, such as dicom,review.
ARG EXTRAS=dicom
COPY .ci/constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /tmp/wheels
RUN /opt/ddmseg/bin/pip install --no-cache-dir --constraint /tmp/constraints.txt \
    "$(echo /tmp/wheels/ddmseg-*.whl)${EXTRAS:+[$EXTRAS]}" \
 && rm -r /tmp/constraints.txt /tmp/wheels

# Home and cache are open to any user id: docker run --user names one, Apptainer runs as its caller.
RUN useradd --uid 10001 --home-dir /home/ddmseg --no-create-home ddmseg \
 && mkdir -p /home/ddmseg/.cache /data \
 && chmod 1777 /home/ddmseg /home/ddmseg/.cache /data
ENV PATH=/opt/ddmseg/bin:$PATH HOME=/home/ddmseg

# OpenMP is left alone: ddmseg itself says how threads wait, torch takes the processors it may use.
USER 10001
WORKDIR /data
ENTRYPOINT ["ddmseg"]
CMD ["--help"]
