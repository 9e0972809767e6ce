"""The tree of errors; each leaf has an HTTP status, a stable code and a title. Its branches:

    Eye2FaceError
    ├── ImageError         the image cannot be used
    ├── RequestError       the request itself is invalid
    │   └── CallerLimited  the caller is over one of its limits
    ├── EyeRefused         the quality of the eye is too low
    └── ModelError         the service cannot process photos

A message says what was found, what was expected and what to do. The docstrings and titles below are the table
in `docs/http-api.md`: `python -m tests.write_docs`.
"""

from collections.abc import Mapping


class Eye2FaceError(Exception):
    """Base of all our errors; `str(error)` is the message for the caller."""

    status = 500
    code = "internal_error"
    title = "Internal error"
    request_id = ""
    """ID of the failed request, if a client raised this error from a response."""
    retry_after_s = 0
    """Seconds after which to try again, the Retry-After header; 0: there is none."""

    def __init__(self, message: str = "", *, retry_after_s: int | None = None, **members: int | None) -> None:
        super().__init__(message)
        self.members: Mapping[str, int] = {name: n for name, n in members.items() if n is not None}
        """Additional members of the problem, for programs."""
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s

    @classmethod
    def branch(cls) -> list[type["Eye2FaceError"]]:
        """This class and all below it."""
        return [cls, *(kind for below in cls.__subclasses__() for kind in below.branch())]


class ImageError(Eye2FaceError):
    """The image in the request cannot be used."""

    status, code, title = 422, "image_error", "Unusable image"


class EmptyBody(ImageError):
    """The request has no body."""

    status, code, title = 400, "empty_body", "Empty request body"


class NotAnImage(ImageError):
    """The bytes do not start with the signature of an image format."""

    status, code, title = 415, "not_an_image", "Not an image"


class UnsupportedFormat(ImageError):
    """An image in a format other than JPEG, PNG, WebP, AVIF and BMP, or a kind of these that is not read."""

    status, code, title = 415, "unsupported_format", "Unsupported image format"


class ImageCorrupt(ImageError):
    """The image header is valid, but the data is damaged or truncated."""

    status, code, title = 422, "image_corrupt", "Corrupt image"


class ImageTooLarge(ImageError):
    """More pixels than EYE2FACE_MAX_PIXELS, or a PNG of more than 2²⁸ bytes of them."""

    status, code, title = 413, "image_too_large", "Image too large"


class ImageTooSmall(ImageError):
    """The image has too few pixels to show an eye."""

    status, code, title = 422, "image_too_small", "Image too small"


class RequestError(Eye2FaceError):
    """The request itself is invalid."""

    status, code, title = 400, "bad_request", "Bad request"


class UploadTooLarge(RequestError):
    """The body is larger than EYE2FACE_MAX_UPLOAD_BYTES, or EYE2FACE_MAX_BATCH_BYTES for a batch."""

    status, code, title = 413, "upload_too_large", "Upload too large"


class UploadTooSlow(RequestError):
    """The body did not arrive within EYE2FACE_UPLOAD_TIMEOUT_S, or the head within 10 s."""

    status, code, title = 408, "upload_too_slow", "Upload timed out"


class UnsupportedMediaType(RequestError):
    """The Content-Type is none of the accepted ones, or the body has a Content-Encoding."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class MissingField(RequestError):
    """The form or the JSON object has no field `image`."""

    status, code, title = 422, "missing_field", "Missing field"


class InvalidParameter(RequestError):
    """A query parameter, header or field of the body is unknown or has an invalid value."""

    status, code, title = 422, "invalid_parameter", "Invalid parameter"


class InvalidJson(RequestError):
    """The body is not valid JSON, or `image` is not valid base64."""

    status, code, title = 400, "invalid_json", "Invalid JSON"


class InvalidForm(RequestError):
    """The body is not a valid multipart form, or has an unexpected number of images."""

    status, code, title = 400, "invalid_form", "Invalid form"


class NotAcceptable(RequestError):
    """The Accept header allows none of the response formats."""

    status, code, title = 406, "not_acceptable", "Not acceptable"


class Unauthorized(RequestError):
    """The service requires an API key, and the request has none or an unknown one."""

    status, code, title = 401, "unauthorized", "API key required"


class NotFound(RequestError):
    """No route has this path."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(RequestError):
    """The route does not support this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class HeadTooLarge(RequestError):
    """Request line, headers, chunk extensions and trailers are too long or too many."""

    status, code, title = 431, "head_too_large", "Request head too large"


class NotLocal(RequestError):
    """Without API keys: another `Host` than this machine, or a page of another site that posts."""

    status, code, title = 403, "not_local", "Only local requests"


class CallerLimited(RequestError):
    """The caller is over one of its limits."""

    status, code, title = 429, "caller_limited", "Limit exceeded"
    retry_after_s = 1


class RateLimited(CallerLimited):
    """The caller is over EYE2FACE_MAX_REQUESTS_PER_MINUTE."""

    code, title = "rate_limited", "Rate limit exceeded"


class TooManyRequests(CallerLimited):
    """The caller is over EYE2FACE_MAX_CONCURRENT_REQUESTS."""

    code, title = "too_many_requests", "Too many concurrent requests"


class NoEyeFound(Eye2FaceError):
    """The eye detector found no eye with a score above its threshold."""

    status, code, title = 422, "no_eye_found", "No eye found"


class NoSuchPerson(Eye2FaceError):
    """`person=N` is not in the photo."""

    status, code, title = 422, "no_such_person", "No such person"


class NoSuchEye(Eye2FaceError):
    """The eye of `eye=left` or `eye=right` is not visible."""

    status, code, title = 422, "no_such_eye", "No such eye"


class EyeRefused(Eye2FaceError):
    """An eye was found, but its quality is too low to draw a face from."""

    status, code, title = 422, "eye_refused", "Eye quality too low"


class EyeTooSmall(EyeRefused):
    """The eye is smaller than EYE2FACE_MIN_EYE_PX."""

    code, title = "eye_too_small", "Eye too small"


class EyeTooDark(EyeRefused):
    """The eye is darker than EYE2FACE_MIN_EYE_LIGHT."""

    code, title = "eye_too_dark", "Eye too dark"


class EyeTooBlurred(EyeRefused):
    """The eye is less sharp than EYE2FACE_MIN_EYE_SHARPNESS."""

    code, title = "eye_too_blurred", "Eye too blurred"


class Overloaded(Eye2FaceError):
    """The queue is full, or memory for uploads is; try again after Retry-After."""

    status, code, title = 503, "overloaded", "Service overloaded"
    retry_after_s = 1


class DeadlineExceeded(Eye2FaceError):
    """The photo was not processed before its deadline."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


class ModelError(Eye2FaceError):
    """The service cannot process photos; the request is not at fault."""

    status, code, title = 503, "model_error", "Service unavailable"


class ModelNotFound(ModelError):
    """There is no model of this name or path."""

    code, title = "model_not_found", "Model not found"


class ModelContractUnknown(ModelError):
    """The file is not an ONNX model with metadata that this version supports."""

    code, title = "model_contract_unknown", "Unsupported model"


class ModelSelfTestFailed(ModelError):
    """The model has valid metadata, but its output does not pass the self-test."""

    code, title = "model_self_test_failed", "Model self-test failed"


class RuntimeMissing(ModelError):
    """ONNX Runtime is not installed."""

    code, title = "runtime_missing", "ONNX Runtime not installed"


class DeviceUnavailable(ModelError):
    """The configured device cannot run the model."""

    code, title = "device_unavailable", "Device unavailable"


class SandboxMissing(ModelError):
    """EYE2FACE_SANDBOX=required, but the sandbox cannot be set up."""

    code, title = "sandbox_missing", "Sandbox unavailable"


class InferenceFailed(ModelError):
    """The model failed on this photo."""

    code, title = "inference_failed", "Inference failed"


class SigningFailed(ModelError):
    """The face could not be signed with EYE2FACE_C2PA_CERT_FILE."""

    code, title = "signing_failed", "Signing failed"


class ReadingFailed(ModelError):
    """The decoder process died on this photo; another one has replaced it."""

    code, title = "reading_failed", "Decoder process failed"


class OutOfMemory(ModelError):
    """There is not enough memory to decode the photo."""

    code, title = "out_of_memory", "Out of memory"


class NotReady(ModelError):
    """The service is starting, stopping, or cannot run its model."""

    code, title = "not_ready", "Service not ready"
