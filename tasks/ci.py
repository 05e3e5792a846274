"""What CI asks of the images: which to build where, and whether there is space."""

from invoke.context import Context

from tasks.command import command


@command(
    platform="only the jobs for this platform, such as linux/amd64",
    github="print one line for $GITHUB_OUTPUT",
)
def matrix(_: Context, platform: str | None = None, github: bool = False) -> None:
    """Print the jobs that build every image on every platform, as a matrix of GitHub Actions."""
    import json

    from cloister import console, images
    from cloister.images import jobs

    made = jobs.matrix(images.catalogue(), platform)
    if github:
        console.show(f"matrix={json.dumps(made)}")
    else:
        console.dump(made)


@command(image="one image of images/images.yaml")
def preflight(_: Context, image: str) -> None:
    """Check that Docker has the space that building an image takes; code 5 if not."""
    from cloister import console
    from cloister.images import jobs

    console.say(jobs.preflight(image))
