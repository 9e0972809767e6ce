"""Every error a caller can meet, as one tree; knows nothing of HTTP frameworks or pictures.

    Eye2FaceError
    ├── ImageError                what was sent is not a picture we can use
    │   ├── EmptyBody             400 empty_body
    │   ├── NotAnImage            415 not_an_image
    │   ├── UnsupportedFormat     415 unsupported_format
    │   ├── ImageCorrupt          422 image_corrupt
    │   ├── ImageTooLarge         413 image_too_large
    │   └── ImageTooSmall         422 image_too_small
    ├── RequestError              the request around the picture is wrong
    │   ├── UploadTooLarge        413 upload_too_large
    │   ├── UploadTooSlow         408 upload_too_slow
    │   ├── UnsupportedMediaType  415 unsupported_media_type
    │   ├── MissingField          422 missing_field
    │   ├── InvalidParameter      422 invalid_parameter
    │   ├── InvalidJson           400 invalid_json
    │   ├── InvalidForm           400 invalid_form
    │   ├── NotAcceptable         406 not_acceptable
    │   ├── Unauthorized          401 unauthorized
    │   ├── NotFound              404 not_found
    │   ├── MethodNotAllowed      405 method_not_allowed
    │   └── CallerLimited         one caller asks for more than its share
    │       ├── RateLimited       429 rate_limited
    │       └── TooManyRequests   429 too_many_requests
    ├── NoEyeFound                422 no_eye_found
    ├── NoSuchPerson              422 no_such_person
    ├── NoSuchEye                 422 no_such_eye
    ├── EyeRefused                an eye is seen too badly to draw a face from
    │   ├── EyeTooSmall           422 eye_too_small
    │   ├── EyeTooDark            422 eye_too_dark
    │   └── EyeTooBlurred         422 eye_too_blurred
    ├── Overloaded                503 overloaded
    ├── DeadlineExceeded          504 deadline_exceeded
    └── ModelError                the service itself cannot answer
        ├── ModelNotFound         503 model_not_found
        ├── ModelContractUnknown  503 model_contract_unknown
        ├── ModelSelfTestFailed   503 model_self_test_failed
        ├── RuntimeMissing        503 runtime_missing
        ├── DeviceUnavailable     503 device_unavailable
        ├── SandboxMissing        503 sandbox_missing
        ├── InferenceFailed       503 inference_failed
        ├── ReadingFailed         503 reading_failed
        ├── OutOfMemory           503 out_of_memory
        └── NotReady              503 not_ready

Messages say what was found, what was expected and what to do.
"""

from collections.abc import Mapping
from types import MappingProxyType


class Eye2FaceError(Exception):
    """Any error of ours; `str(error)` is the sentence for the caller."""

    status = 500
    code = "internal_error"
    title = "The service failed"
    members: Mapping[str, int] = MappingProxyType({})
    """What the answer says beside the sentence, for programs."""
    request_id = ""
    """Which request met it, where the error came over HTTP (`service.client.client`)."""


class ImageError(Eye2FaceError):
    """What was sent is not a picture we can use."""

    status = 422
    code = "image_error"
    title = "The picture cannot be used"


class EmptyBody(ImageError):
    """Nothing was sent where a picture was expected."""

    status = 400
    code = "empty_body"
    title = "Nothing was sent"


class NotAnImage(ImageError):
    """The bytes do not begin like any picture format."""

    status = 415
    code = "not_an_image"
    title = "Not a picture"


class UnsupportedFormat(ImageError):
    """A picture, but of a format that is not read here."""

    status = 415
    code = "unsupported_format"
    title = "Picture format not supported"


class ImageCorrupt(ImageError):
    """The header is a picture's, the rest is broken or cut off."""

    status = 422
    code = "image_corrupt"
    title = "The picture is damaged"


class ImageTooLarge(ImageError):
    """More pixels than the service takes; found before decoding."""

    status = 413
    code = "image_too_large"
    title = "Too many pixels"


class ImageTooSmall(ImageError):
    """Too few pixels to hold an eye, or none at all."""

    status = 422
    code = "image_too_small"
    title = "Too few pixels"


class RequestError(Eye2FaceError):
    """The request around the picture is wrong."""

    status = 400
    code = "bad_request"
    title = "The request is wrong"


class UploadTooLarge(RequestError):
    """More bytes than the service takes; counted while they stream in."""

    status = 413
    code = "upload_too_large"
    title = "Upload too large"


class UploadTooSlow(RequestError):
    """The body did not come within its time."""

    status = 408
    code = "upload_too_slow"
    title = "Upload too slow"


class UnsupportedMediaType(RequestError):
    """The Content-Type is none of the three body forms."""

    status = 415
    code = "unsupported_media_type"
    title = "Content-Type not supported"


class MissingField(RequestError):
    """The form or JSON lacks the field `image`."""

    status = 422
    code = "missing_field"
    title = "The field 'image' is missing"


class InvalidParameter(RequestError):
    """A query parameter is unknown or has a value outside its set."""

    status = 422
    code = "invalid_parameter"
    title = "Invalid parameter"


class InvalidJson(RequestError):
    """The JSON body does not parse, or its base64 does not."""

    status = 400
    code = "invalid_json"
    title = "Invalid JSON"


class InvalidForm(RequestError):
    """The multipart body does not parse, or holds more than one picture."""

    status = 400
    code = "invalid_form"
    title = "Invalid form"


class NotAcceptable(RequestError):
    """No form of the answer fits the Accept header."""

    status = 406
    code = "not_acceptable"
    title = "No acceptable form of answer"


class Unauthorized(RequestError):
    """The service wants an API key, and none or a wrong one was sent."""

    status = 401
    code = "unauthorized"
    title = "API key wanted"


class NotFound(RequestError):
    """Nothing is served at that path."""

    status = 404
    code = "not_found"
    title = "Nothing is served here"


class MethodNotAllowed(RequestError):
    """The path is served, but not with that method."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"


class CallerLimited(RequestError):
    """One caller asks for more than its share; `retry_after_s` says when it may be worth to ask again."""

    status = 429
    code = "caller_limited"
    title = "Too much for one caller"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(CallerLimited):
    """More requests a minute than EYE2FACE_MAX_REQUESTS_PER_MINUTE."""

    code = "rate_limited"
    title = "Too many requests a minute"


class TooManyRequests(CallerLimited):
    """More requests at once than EYE2FACE_MAX_CONCURRENT_REQUESTS."""

    code = "too_many_requests"
    title = "Too many requests at once"


class NoEyeFound(Eye2FaceError):
    """The finder saw no eye in the picture, or none that it was sure of."""

    status = 422
    code = "no_eye_found"
    title = "No eye found"

    def __init__(self, message: str, *, num_below_threshold: int | None = None) -> None:
        super().__init__(message)
        if num_below_threshold is not None:
            self.members = {"num_below_threshold": num_below_threshold}


class NoSuchPerson(Eye2FaceError):
    """`person=N` names a person whom the finder did not see."""

    status = 422
    code = "no_such_person"
    title = "No such person"


class NoSuchEye(Eye2FaceError):
    """`eye=left|right` names an eye that the person does not show."""

    status = 422
    code = "no_such_eye"
    title = "No such eye"


class EyeRefused(Eye2FaceError):
    """An eye was found, but seen so badly that a face drawn from it would be made of nothing."""

    status = 422
    code = "eye_refused"
    title = "The eye cannot be used"


class EyeTooSmall(EyeRefused):
    """Fewer pixels than EYE2FACE_MIN_EYE_PX."""

    code = "eye_too_small"
    title = "The eye is too small"


class EyeTooDark(EyeRefused):
    """Less light than EYE2FACE_MIN_EYE_LIGHT."""

    code = "eye_too_dark"
    title = "The eye is too dark"


class EyeTooBlurred(EyeRefused):
    """Less sharp than EYE2FACE_MIN_EYE_SHARPNESS."""

    code = "eye_too_blurred"
    title = "The eye is too blurred"


class Overloaded(Eye2FaceError):
    """So many photos wait that another one is refused at once."""

    status = 503
    code = "overloaded"
    title = "Too many photos at once"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(Eye2FaceError):
    """The photo was not done within the time given to it."""

    status = 504
    code = "deadline_exceeded"
    title = "Not done in time"


class ModelError(Eye2FaceError):
    """The service itself cannot answer; nothing is wrong with the request."""

    status = 503
    code = "model_error"
    title = "The model cannot be used"


class ModelNotFound(ModelError):
    """No model file of that name or path."""

    code = "model_not_found"
    title = "Model not found"


class ModelContractUnknown(ModelError):
    """The file is no ONNX model of a contract that this service knows."""

    code = "model_contract_unknown"
    title = "Model contract unknown"


class ModelSelfTestFailed(ModelError):
    """The file follows the contract, but what it draws are no faces."""

    code = "model_self_test_failed"
    title = "The model failed its self-test"


class RuntimeMissing(ModelError):
    """ONNX Runtime is not installed."""

    code = "runtime_missing"
    title = "ONNX Runtime is missing"


class DeviceUnavailable(ModelError):
    """The device that was asked for does not run the model."""

    code = "device_unavailable"
    title = "Device unavailable"


class SandboxMissing(ModelError):
    """Photos are to be read in a sandbox, and cannot be."""

    code = "sandbox_missing"
    title = "There is no sandbox"


class InferenceFailed(ModelError):
    """The model was run and failed."""

    code = "inference_failed"
    title = "The model failed"


class ReadingFailed(ModelError):
    """The process that decoded the photo and looked for its eyes ended; another one takes its place."""

    code = "reading_failed"
    title = "The photo could not be read"


class OutOfMemory(ModelError):
    """The system gave the service too little memory for the photo's pixels."""

    code = "out_of_memory"
    title = "Too little memory"


class NotReady(ModelError):
    """The model is not loaded, or the service is about to stop."""

    code = "not_ready"
    title = "The service is not ready"
