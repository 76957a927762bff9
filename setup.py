"""What pyproject.toml cannot say: the folder assets/ is installed inside the package, as lcm_studio/assets."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lcm_studio*", "training*"]), "lcm_studio.assets"],
    package_dir={"lcm_studio.assets": "assets"},
    package_data={
        "lcm_studio.web": ["static/**/*"],
        "lcm_studio.assets": ["models/**/*", "examples/*"],
        "training": ["presets/*.yaml", "scenery/*.yaml"],
    },
)
