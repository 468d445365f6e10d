"""The exceptions that tddfa_ros raises: each message names the value, the cause and the remedy."""


class TddfaError(Exception):
    """Base of every error that tddfa_ros raises on purpose.

    The command line prints its message without a traceback; a node logs it and lives on.
    """


class ConfigError(TddfaError):
    """A setting is unknown, of the wrong type or outside its range."""


class ImageError(TddfaError):
    """An image cannot be used: unreadable, empty, of the wrong shape or encoding."""


class MediaError(TddfaError):
    """A video, folder, camera or bag cannot be opened, read or written."""


class ModelSetError(TddfaError):
    """A model set is incomplete, damaged or of a format that this version does not know."""


class ModelSetNotFoundError(ModelSetError):
    """No model set of that name or path; the message says where was looked and how to get one."""


class UnsafeFileError(TddfaError):
    """A file from outside holds something other than the plain data it should hold."""


class DownloadError(TddfaError):
    """A download failed or its content is not what was asked for."""


class ExportError(TddfaError):
    """A mesh or picture cannot be written: unknown format, or a path outside the allowed folder."""
