"""The hazard amplifier: learned queries that find, amplify and report what is dangerous in a photo's tokens."""

from launch.amplifier.guards import MODULE, amplifier_section, check_adapter, check_code
from launch.amplifier.options import AmplifierOptions

__all__ = ["MODULE", "AmplifierOptions", "amplifier_section", "check_adapter", "check_code"]
