# The service with the shipped model; two targets, for the CPU (the default) and for an NVIDIA GPU:
#   docker build -t eye2face:cpu . && docker compose up
#   docker build -t eye2face:gpu --target gpu .        with --build-arg GPU=gpu-cuda12 for drivers older than 580
# The first stages may fetch packages; the last ones hold only what runs.
FROM docker.io/library/python:3.11-slim AS sources
WORKDIR /src
RUN python3 -m venv /opt/eye2face && mkdir /empty
# Processes that read photos are shut in by it (EYE2FACE_SANDBOX); it is in the base, as Debian's apt needs it.
RUN python3 -c 'import ctypes; ctypes.CDLL("libseccomp.so.2")'
# Bytecode lies in a folder of its own, that of Python's library too, which the base leaves out: nothing is written at
# run time, so without it each start would compile anew.
ENV PYTHONPYCACHEPREFIX=/opt/eye2face/bytecode
RUN python3 -m compileall -q --invalidation-mode unchecked-hash \
        -x '/(test|tests|idlelib|lib2to3|tkinter|turtledemo|site-packages|dist-packages)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY pyproject.toml README.md LICENSE ./
COPY requirements ./requirements
COPY models ./models
COPY eye2face ./eye2face
COPY service ./service
COPY training ./training

FROM sources AS packages-cpu
RUN /opt/eye2face/bin/python -m pip install --no-compile --no-cache-dir --disable-pip-version-check \
        --require-hashes --requirement requirements/cpu.txt \
    && /opt/eye2face/bin/python -m pip install --no-compile --no-cache-dir --disable-pip-version-check --no-deps . \
    && /opt/eye2face/bin/python -m pip uninstall --yes pip setuptools
# A sixth less: tests, tools and a second copy of ONNX Runtime that no Python program loads, cascades of no use here.
RUN cd /opt/eye2face/lib/python3.11/site-packages \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && rm -rf numpy/f2py numpy/distutils numpy/_core/_simd.*.so onnxruntime/backend onnxruntime/datasets onnxruntime/quantization \
        onnxruntime/tools onnxruntime/transformers onnxruntime/capi/libonnxruntime.so.* \
    && find cv2/data -name '*.xml' ! -name haarcascade_frontalface_alt2.xml ! -name 'haarcascade_*eye_2splits.xml' -delete
RUN rm -rf "$PYTHONPYCACHEPREFIX/tmp" \
    && /opt/eye2face/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/eye2face/lib

# CUDA and cuDNN come as packages beside ONNX Runtime, so that no base image of their own is needed.
FROM sources AS packages-gpu
ARG GPU=gpu
RUN /opt/eye2face/bin/python -m pip install --no-compile --no-cache-dir --disable-pip-version-check \
        --require-hashes --requirement "requirements/$GPU.txt" \
    && /opt/eye2face/bin/python -m pip install --no-compile --no-cache-dir --disable-pip-version-check --no-deps . \
    && /opt/eye2face/bin/python -m pip uninstall --yes pip setuptools
RUN rm -rf "$PYTHONPYCACHEPREFIX/tmp" \
    && /opt/eye2face/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/eye2face/lib

FROM docker.io/library/python:3.11-slim AS runtime
LABEL org.opencontainers.image.title="eye2face" \
      org.opencontainers.image.description="One eye in, one synthetic face out. Not for identification." \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# Nothing is written at run time (the root may be mounted read-only) but what the bridge remembers, and that only
# where a volume is mounted at /var/lib/eye2face; without keys or an explicit EYE2FACE_ALLOW_ANONYMOUS=true
# the service refuses to start on 0.0.0.0. OpenBLAS, which NumPy and OpenCV bring and nobody asks, would begin two threads
# for every core.
ENV PATH=/opt/eye2face/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/opt/eye2face/bytecode \
    PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=1 \
    EYE2FACE_HOST=0.0.0.0 \
    EYE2FACE_PORT=8000
COPY --from=sources --chown=10001:10001 /empty /var/lib/eye2face
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python3", "-c", "import os, ssl, urllib.request as u; s = 's' * bool(os.environ.get('EYE2FACE_TLS_CERT_FILE')); u.urlopen(f\"http{s}://127.0.0.1:{os.environ['EYE2FACE_PORT']}/readyz\", timeout=2, context=ssl._create_unverified_context())"]
ENTRYPOINT ["eye2face"]
CMD ["serve"]

FROM runtime AS gpu
# Refuses to start where the model would run on the CPU. The others tell NVIDIA's container runtime what to hand in.
ENV EYE2FACE_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /opt/eye2face /opt/eye2face

FROM runtime AS cpu
COPY --from=packages-cpu /opt/eye2face /opt/eye2face
