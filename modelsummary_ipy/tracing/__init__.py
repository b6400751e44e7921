"""One pass of the shadow, written down: calls, aten operations, storages, source lines; and the same pass at other inputs."""
