"""The load test: real pages through the gateway, measured so that the numbers can be believed."""
