"""The command surface: every task parses its flags, calls `cloister` and prints the answer.

`cloister` is imported inside the tasks, so that `invoke --list` stays quick.
"""

import sys
from pathlib import Path

from invoke.collection import Collection

from tasks import (
    access,
    bundles,
    ci,
    fleet,
    images,
    models,
    planning,
    publishing,
    release,
    reports,
    service,
    tuning,
)

# Of a package Invoke puts nothing on the path, and `cloister` lies beside it.
sys.path.insert(0, str(Path(__file__).parents[1]))

bundle = Collection(bundles.install, bundles.keygen, bundles.verify)
bundle.add_task(bundles.make, "make", default=True)
namespace = Collection(
    fleet.autoscale,
    service.config,
    service.down,
    models.download,
    fleet.events,
    service.health,
    service.logs,
    service.ocr,
    planning.plan,
    release.release,
    service.restart,
    fleet.rollout,
    service.samples,
    fleet.scale,
    service.setup,
    fleet.status,
    service.up,
    service.verify,
    bundle=bundle,
    images=Collection(
        build=images.build,
        facts=images.facts,
        list=images.list_,
        lock=images.lock,
        matrix=ci.matrix,
        preflight=ci.preflight,
        publish=publishing.publish,
        test=images.inspect,
        verify=publishing.verify,
    ),
    keys=Collection(create=access.create, list=access.list_, revoke=access.revoke),
    models=Collection(
        list=models.list_, remove=models.remove, use=models.use, verify=models.verify
    ),
    network=Collection(attach=images.attach, detach=images.detach),
    report=Collection(compare=reports.compare, show=reports.show),
    tls=Collection(create=access.certify),
    tune=Collection(plan=tuning.plan, show=tuning.show),
)
