"""Settings of the service and of the bridge, read from environment variables at startup.

`docs/configuration.md` is generated from the descriptions of their fields: `python -m tests.write_docs`.
"""

import difflib
import logging
import os

from service.settings.bridge import BridgeSettings as BridgeSettings
from service.settings.environment import LINK_NAME, PREFIX
from service.settings.environment import ConfigurationError as ConfigurationError
from service.settings.service import Sandbox as Sandbox
from service.settings.service import Settings as Settings
from service.settings.service import check_key_hash as check_key_hash

_log = logging.getLogger(__name__)


def warn_about_unknown_variables() -> None:
    """Logs a warning for each `EYE2FACE_` variable that is not a setting, with the closest name."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    known += [f"{PREFIX}BRIDGE_{name.upper()}" for name in BridgeSettings.model_fields]
    for name in sorted(os.environ):
        if not name.upper().startswith(PREFIX) or name.upper() in known or LINK_NAME.fullmatch(name):
            continue
        meant = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
        advice = f"; did you mean {meant[0]}?" if meant else ""
        _log.warning("%s is not a setting and is ignored%s", name, advice)
