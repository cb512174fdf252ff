"""Imported before a tool: no telemetry, no look for a newer version, no warnings of what it could also do."""

import logging
import os
import warnings

os.environ["GSK_DISABLE_ANALYTICS"] = "true"
os.environ["DISABLE_LATEST_VERSION_CHECK"] = "true"  # of deepchecks, with its telemetry
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
