"""The command surface: every task parses its flags, calls `cloister` and prints the answer.

`cloister` is imported inside the tasks, so that `invoke --list` stays quick.
"""

from invoke.collection import Collection

from tasks import images, service

namespace = Collection(
    service.config,
    service.down,
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
    network=Collection(attach=images.attach, detach=images.detach),
)
