"""Settings of the whole suite: software rendering, one thread per process, no hub, the same examples at every run.

HYPOTHESIS_PROFILE=explore looks for new examples.
"""

import os
import signal

from hypothesis import settings

from emu_robot.shared.scheduling import forbid_realtime

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

for variable, value in {"OMP_NUM_THREADS": "1", "MUJOCO_GL": "egl", "HF_HUB_OFFLINE": "1"}.items():
    os.environ.setdefault(variable, value)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts a command in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as nohup does; processes of the tests inherit it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

forbid_realtime()  # LeRobot's AV1 encoder would put this process, and the browsers that it starts, before all others
