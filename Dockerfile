# The service on a CPU with the shipped model: docker build -t eye2face . && docker compose up
# Two stages of one image: the first may fetch packages, the second holds only what runs.
FROM docker.io/library/python:3.11-slim AS build
WORKDIR /src
RUN python3 -m venv /opt/eye2face
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY models ./models
COPY service ./service
COPY training ./training
RUN /opt/eye2face/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --constraint constraints.txt '.[cpu]' \
    && /opt/eye2face/bin/python -m pip uninstall --yes pip setuptools

FROM docker.io/library/python:3.11-slim
LABEL org.opencontainers.image.title="eye2face" \
      org.opencontainers.image.description="One eye in, one synthetic face out. Not for identification." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0 AND LicenseRef-eye2face-models-research-only"
COPY --from=build /opt/eye2face /opt/eye2face
# Nothing is written at run time (the root may be mounted read-only); without keys or an explicit
# EYE2FACE_ALLOW_ANONYMOUS=true the service refuses to start on 0.0.0.0.
ENV PATH=/opt/eye2face/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EYE2FACE_HOST=0.0.0.0 \
    EYE2FACE_PORT=8000
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['EYE2FACE_PORT']}/readyz\", timeout=2)"]
ENTRYPOINT ["eye2face"]
CMD ["serve"]
