"""One trace of the shadow: calls, aten operations, storages, source lines; and the same at other inputs."""
