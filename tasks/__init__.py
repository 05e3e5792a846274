"""The command surface: every task parses its flags, calls `cloister` and prints the answer.

`cloister` is imported inside the tasks, so that `invoke --list` stays quick.
"""

import sys
from pathlib import Path

from invoke.collection import Collection

from tasks import images, models, service

# Of a package Invoke puts nothing on the path, and `cloister` lies beside it.
sys.path.insert(0, str(Path(__file__).parents[1]))

namespace = Collection(
    service.config,
    service.down,
    models.download,
    service.health,
    service.logs,
    service.ocr,
    service.restart,
    service.samples,
    service.setup,
    service.status,
    service.up,
    service.verify,
    images=Collection(build=images.build, list=images.list_, test=images.inspect),
    models=Collection(
        list=models.list_, remove=models.remove, use=models.use, verify=models.verify
    ),
    network=Collection(attach=images.attach, detach=images.detach),
)
