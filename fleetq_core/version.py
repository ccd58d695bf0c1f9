"""The version of FLEET-Q."""

VERSION = "0.1.0"
