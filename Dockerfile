# The quickstart's installation in an image:
#
#   docker build -t msdet .
#   docker run --rm -v /data/mine:/data msdet msdet check --config configs/yolov4_finetune.yaml --data_dir /data
FROM python:3.11-slim-bookworm

# g++ builds the stubs of tests/ascend; the fonts draw class names of any script.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ binutils fonts-noto-core fonts-noto-cjk \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /msdet
COPY . .
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt \
    && .venv/bin/python -m msdet doctor --quiet
ENV PATH=/msdet/.venv/bin:$PATH
CMD ["msdet", "--help"]
