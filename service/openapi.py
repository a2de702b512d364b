"""The OpenAPI document of the service, exact for the model that is live, and the page that shows it.

OpenAPI 3.0.3, since the Swagger UI that BentoML carries reads no later one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from gatewise.drift import State
from service import inference_protocol as protocol

Schema = dict[str, Any]

# BentoML's own index page calls a tag manager on the internet; this one shows the same document and calls nobody.
INDEX_HTML = b"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Gatewise</title><link rel="stylesheet" href="./static_content/swagger-ui.css"></head>
<body><div id="docs"></div><script src="./static_content/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "./docs.json", dom_id: "#docs"})</script></body>
</html>
"""

_ERRORS = {
    400: (
        "the body is not JSON",
        "malformed_json",
        "the body is not JSON at line 1, column 2: unexpected end of data",
    ),
    401: (
        "the header `authorization: Bearer TOKEN` is missing",
        "unauthorized",
        "this route needs the header `authorization: Bearer TOKEN`, with GATEWISE_ADMIN_TOKEN",
    ),
    403: ("another token came", "forbidden", "the token is not GATEWISE_ADMIN_TOKEN"),
    404: (
        "the live model has no report, or is not the one asked for",
        "no_report",
        "questions was made without a report; `gatewise train` makes one",
    ),
    408: ("the body did not arrive in time", "body_timeout", "the body did not arrive in time; 17 bytes had come"),
    409: (
        "other feedback was stored under the same key",
        "feedback_conflict",
        "key: feedback with this key and other content is stored already; give each submission its own key",
    ),
    413: (
        "the body or the work in it is too large",
        "body_too_large",
        "the body has 20971520 bytes; split the request",
    ),
    415: ("the body is not sent as JSON", "unsupported_media_type", "content-type 'text/plain' is not taken"),
    422: (
        "the request, or a sequence in it, is wrong",
        "invalid_sequence",
        "sequences[3][17]: expected a number, got a string",
    ),
    429: ("the queue is full; `Retry-After` says when to try again", "queue_full", "980000 timesteps wait already"),
    500: ("a fault of the service", "internal", "an unexpected error; the server's log says more"),
    501: (
        "what stores feedback is not installed",
        "missing_dependency",
        "feedback needs sqlalchemy: pip install 'gatewise[feedback]'",
    ),
    503: ("no model is loaded", "not_ready", "the service is starting"),
    504: ("the answer was not ready in time", "timed_out", "the answer was not ready in time"),
}
_PREDICT_ERRORS = (400, 408, 413, 415, 422, 429, 500, 503, 504)
_FEEDBACK_ERRORS = (*_PREDICT_ERRORS, 409, 501)
_TEXT = "How far is the moon ?"
_FLOAT_MAX = 3.4028234663852886e38
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_ABSTAINED = "whether the confidence is too low for the target precision; of models that have one"


def document(card: Mapping[str, Any], *, has_admin: bool = False) -> Schema:
    """The document.

    Args:
        card: of the live model, as `GET /model` gives it.
        has_admin: whether the administrator's routes exist.
    """
    return {
        "openapi": "3.0.3",
        "info": {
            "title": f"Gatewise: {card['name']}",
            "version": card["gatewise"],
            "description": f"Classifies {_noun(card)} as one of {len(card['labels'])} labels. "
            f"Live: {card['name']}, version {card['version']}.",
        },
        "servers": [{"url": "."}],
        "paths": {
            "/predict": {"post": _predict(card)},
            "/feedback": {"post": _feedback(card)},
            "/model": {"get": _get("model", "The live model's card.", _json(_ref("Model"), dict(card)), errors=(503,))},
            "/model/report": {
                "get": _get("report", "The live model's report, a page.", _text("text/html"), errors=(404, 503))
            },
            "/livez": {"get": _get("livez", "200 while the process is alive.", _text("text/plain"), errors=(503,))},
            "/healthz": {"get": _get("healthz", "The same as /livez.", _text("text/plain"), errors=(503,))},
            "/readyz": {"get": _get("readyz", "200 once a model is live.", _json(_readiness()), errors=(503,))},
            "/metrics": {
                "get": _get("metrics", "Metrics in Prometheus's text format.", _text("text/plain"), errors=())
            },
            "/schema.json": {
                "get": _get("schema", "BentoML's schema, for its clients.", _json({"type": "object"}), errors=())
            },
            **_protocol(card),
            **(_admin(card) if has_admin else {}),
        },
        "components": {
            "schemas": {**_schemas(card), **_tensor_schemas()},
            **({"securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}}} if has_admin else {}),
        },
    }


def example_item(card: Mapping[str, Any]) -> Any:
    """A sequence that the live model takes."""
    if card["kind"] == "text":
        return _TEXT
    channels = len(card["input"]["channels"])
    return [0.0, 0.5, 1.0] if channels == 1 else [[0.0] * channels, [0.5] * channels, [1.0] * channels]


def _predict(card: Mapping[str, Any]) -> Schema:
    request = {"sequences": [example_item(card)]}
    content = _json(_ref("PredictRequest"), request)
    if card["kind"] == "series":
        array = "float32, (sequences, timesteps, channels), as numpy.save writes it"
        content["application/x-npy"] = {"schema": {"type": "string", "format": "binary", "description": array}}
    return {
        "operationId": "predict",
        "summary": f"Classify {_noun(card)}.",
        "description": f"Each sequence is {card['input']['item']}. One wrong sequence fails its request and no other.",
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "one prediction for each sequence, in order",
                "content": _json(_ref("PredictResponse")),
            },
            **{str(status): _error(status) for status in _PREDICT_ERRORS},
        },
    }


def _feedback(card: Mapping[str, Any]) -> Schema:
    label = card["labels"][0]
    item = example_item(card)
    if card["task"] == "step":
        steps = len(item.split()) if card["kind"] == "text" else len(item)
        label = [label] * steps
    request = {"items": [{"sequence": item, "label": label}], "source": "review", "key": "2026-11-23-1"}
    return {
        "operationId": "feedback",
        "summary": "Say what sequences are, for a later training.",
        "description": "All of it is on the disk before the answer, or none. Labels that the model lacks are taken.",
        "requestBody": {"required": True, "content": _json(_ref("FeedbackRequest"), request)},
        "responses": {
            "200": {"description": "what was stored", "content": _json(_ref("FeedbackResponse"))},
            **{str(status): _error(status) for status in sorted(_FEEDBACK_ERRORS)},
            "503": {**_error(503), "description": "no model is loaded, or the database cannot be written now"},
        },
    }


def _admin(card: Mapping[str, Any]) -> Schema:
    name, version = card["name"], {"type": "string", "description": "or the beginning of one that no other shares"}
    model = {"type": "string", "description": "as the model is stored: name, or name:version in place of version"}
    return {
        "/admin/promote": _move("promote", "Make a version production.", {"version": version, "model": model}, {}),
        "/admin/rollback": _move("rollback", "Make production what was before.", {"model": model}, {"model": name}),
    }


def _move(operation: str, what: str, fields: Schema, example: Schema) -> Schema:
    moved = {
        "model": _identity(),
        "previous": {"type": "string", "nullable": True, "description": "the version that was production"},
        "changed": {"type": "boolean"},
    }
    conflict = {**_error(409), "description": "it cannot be done: the version is damaged, or nothing was before"}
    return {
        "post": {
            "operationId": operation,
            "summary": what,
            "description": "Answers once the pointer has moved; every worker follows within two seconds, and the time "
            "that loading takes.",
            "security": [{"admin": []}],
            "requestBody": {
                "required": operation == "promote",
                "content": _json(_object(fields, required=[]), example or {"version": "20261123t084512.347-1f3a9c2e"}),
            },
            "responses": {
                "200": {"description": "what is production now", "content": _json(_object(moved))},
                **{str(status): _error(status) for status in (400, 401, 403, 404, 408, 413, 415, 422, 429, 503)},
                "409": conflict,
            },
        }
    }


def _readiness() -> Schema:
    detail = {"type": "string", "nullable": True, "description": "why another version should be live, and is not"}
    return _object({"ready": {"type": "boolean"}, "model": _identity(), "detail": detail})


def _protocol(card: Mapping[str, Any]) -> Schema:
    """The routes of the Open Inference Protocol, by the live model's own name."""
    model = protocol.MODEL.format(name=card["name"])
    this = f"{model}/versions/{card['version']}"
    ready = _json(_object({"name": {"type": "string"}, "ready": {"type": "boolean"}}))
    state = {"get": _get("v2_model_ready", "200 while the model is live.", ready, errors=(404, 503))}
    described = {"get": _get("v2_model", "The model's tensors.", _json({"type": "object"}), errors=(404, 503))}
    infer = {"post": _infer(card)}
    return {
        protocol.SERVER: {"get": _get("v2", "The server's extensions.", _json({"type": "object"}), errors=())},
        protocol.LIVE: {"get": _get("v2_live", "As /livez.", _json(_flag("live")), errors=(503,))},
        protocol.READY: {"get": _get("v2_ready", "As /readyz.", _json(_flag("ready")), errors=(503,))},
        model: described,
        f"{model}/ready": state,
        f"{model}/infer": infer,
        this: _renamed(described),
        f"{this}/ready": _renamed(state),
        f"{this}/infer": _renamed(infer),
    }


def _renamed(item: Schema) -> Schema:
    """The same operation at the path with a version; no two may have one name."""
    return {
        method: {**operation, "operationId": f"{operation['operationId']}_version"}
        for method, operation in item.items()
    }


def _infer(card: Mapping[str, Any]) -> Schema:
    takes, answers = (
        "; ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in specs)
        for specs in (protocol.inputs_of(card), protocol.outputs_of(card))
    )
    return {
        "operationId": "v2_infer",
        "summary": f"Classify {_noun(card)}, by the Open Inference Protocol.",
        "description": f"Takes {takes}. Answers {answers}. Shorter sequences are filled up, and lengths says how long "
        "each is; it may be left out. Probabilities are in the order of the card's labels. Triton's binary tensor "
        "extension is taken too.",
        "requestBody": {
            "required": True,
            "content": {
                **_json(_ref("InferRequest"), {"inputs": [_example_tensor(card)]}),
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": {"description": "the outputs asked for, or all", "content": _json(_ref("InferResponse"))},
            **{str(status): _error(status) for status in _ERRORS},
        },
    }


def _example_tensor(card: Mapping[str, Any]) -> Schema:
    item = example_item(card)
    if card["kind"] == "text":
        return {"name": "sequences", "datatype": "BYTES", "shape": [1], "data": [item]}
    channels = len(card["input"]["channels"])
    data = item if channels == 1 else [reading for step in item for reading in step]
    return {"name": "sequences", "datatype": "FP32", "shape": [1, len(item), channels], "data": data}


def _tensor_schemas() -> Schema:
    text, parameters = {"type": "string"}, {"type": "object", "nullable": True}
    tensor = {
        "name": text,
        "datatype": {"type": "string", "enum": ["FP32", "INT64", "BOOL", "BYTES"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "parameters": parameters,
        "data": {
            "type": "array",
            "nullable": True,
            "description": "in one row, or nested as the shape is; left out where binary_data_size says its bytes",
            "items": {},
        },
    }
    tensors: Schema = {"type": "array", "items": _object(tensor, required=["name", "datatype", "shape"])}
    wanted = {"type": "array", "nullable": True, "items": _object({"name": text, "parameters": parameters}, ["name"])}
    identifier = {"type": "string", "nullable": True, "description": "answered as it came"}
    return {
        "InferRequest": _object(
            {"id": identifier, "parameters": parameters, "inputs": {**tensors, "minItems": 1}, "outputs": wanted},
            required=["inputs"],
        ),
        "InferResponse": _object(
            {"model_name": text, "model_version": text, "id": text, "outputs": tensors},
            required=["model_name", "model_version", "outputs"],
        ),
    }


def _flag(name: str) -> Schema:
    return _object({name: {"type": "boolean"}})


def _schemas(card: Mapping[str, Any]) -> Schema:
    prediction = _step_prediction(card) if card["task"] == "step" else _prediction(card)
    return {
        "PredictRequest": _object(
            {
                "sequences": {"type": "array", "minItems": 1, "items": _item(card)},
                "probabilities": {
                    "type": "boolean",
                    "nullable": True,
                    "description": "whether each label's probability is answered; "
                    + ("no by default" if card["task"] == "step" else "yes by default"),
                },
                "label_set": {
                    "type": "boolean",
                    "nullable": True,
                    "description": "whether each prediction has its label set; no by default",
                },
            },
            required=["sequences"],
        ),
        "PredictResponse": _object(
            {
                "predictions": {"type": "array", "items": _ref("Prediction")},
                "model": _identity(),
            }
        ),
        "FeedbackRequest": _feedback_request(card),
        "FeedbackResponse": _object(
            {
                "stored": {"type": "integer", "minimum": 1, "description": "items"},
                "labels": {
                    "type": "array",
                    "items": _object({"label": {"type": "string"}, "is_new": {"type": "boolean"}}),
                    "description": "every label of the items, and whether the model lacks it",
                },
                "model": {**_identity(), "description": "the one that the items were checked against"},
            }
        ),
        "Prediction": prediction,
        "Model": _model(),
        "Error": _object(
            {
                "error": {"type": "string", "description": "for people; may change"},
                "code": {"type": "string", "description": "for programs; stable"},
                "details": {
                    "type": "array",
                    "description": "each place and what is wrong there, at most twenty",
                    "items": _object(
                        {
                            "loc": {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "integer"}]}},
                            "message": {"type": "string"},
                        }
                    ),
                },
            }
        ),
    }


def _feedback_request(card: Mapping[str, Any]) -> Schema:
    label: Schema = {"type": "string"}
    if card["task"] == "step":
        label = {"type": "array", "minItems": 1, "items": label, "description": "one for each step"}
    text = {"type": "string", "nullable": True}
    return _object(
        {
            "items": {"type": "array", "minItems": 1, "items": _object({"sequence": _item(card), "label": label})},
            "source": {**text, "description": "who or what says so"},
            "key": {
                **text,
                "pattern": "^[!-~]{1,200}$",
                "description": "chosen by the client: sent again with the same items it stores nothing twice",
            },
        },
        required=["items"],
    )


def _identity() -> Schema:
    return _object({"name": {"type": "string"}, "version": {"type": "string"}})


def _item(card: Mapping[str, Any]) -> Schema:
    if card["kind"] == "text":
        text: Schema = {"type": "string", "example": _TEXT}
        if card["task"] == "sequence":
            return text
        # A step is a token, and white space alone holds none.
        return {"oneOf": [{**text, "pattern": r"\S"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}
    reading: Schema = {"type": "number", "minimum": -_FLOAT_MAX, "maximum": _FLOAT_MAX}
    if card["input"]["allow_missing"]:
        reading |= {"nullable": True, "description": "null is a missing reading"}
    channels = card["input"]["channels"]
    step = {
        "type": "array",
        "minItems": len(channels),
        "maxItems": len(channels),
        "items": reading,
        "description": "one reading for each channel: " + ", ".join(channels),
    }
    steps: Schema = {"type": "array", "minItems": 1, "items": step, "example": example_item(card)}
    if len(channels) > 1:
        return steps
    return {"oneOf": [{"type": "array", "minItems": 1, "items": reading, "example": example_item(card)}, steps]}


def _prediction(card: Mapping[str, Any]) -> Schema:
    return _object(
        {
            "label": _label(card),
            "confidence": _PROBABILITY,
            "probabilities": _probabilities(),
            "abstained": {"type": "boolean", "description": _ABSTAINED},
            "label_set": _label_set(card),
        },
        required=["label", "confidence"],
    )


def _step_prediction(card: Mapping[str, Any]) -> Schema:
    properties = {
        "labels": {"type": "array", "items": _label(card), "description": "one for each step"},
        "confidences": {"type": "array", "items": _PROBABILITY},
        "probabilities": {"type": "array", "items": _probabilities()},
        "abstained": {"type": "array", "items": {"type": "boolean"}, "description": _ABSTAINED},
        "label_set": {"type": "array", "items": _label_set(card)},
    }
    if card["kind"] == "text":
        properties["tokens"] = {"type": "array", "items": {"type": "string"}, "description": "what the steps are"}
    return _object(properties, required=["labels", "confidences"])


def _label(card: Mapping[str, Any]) -> Schema:
    return {"type": "string", "enum": card["labels"]}


def _label_set(card: Mapping[str, Any]) -> Schema:
    held = f"{card['label_sets']['coverage']:.0%}" if card["label_sets"] else "a stated share"
    what = f"on request: labels of which one is the true one in {held} of the cases, likeliest first"
    return {"type": "array", "minItems": 1, "items": _label(card), "description": what}


def _probabilities() -> Schema:
    return {"type": "object", "additionalProperties": _PROBABILITY, "description": "of each label; they sum to 1"}


def _model() -> Schema:
    text, number = {"type": "string"}, {"type": "integer", "nullable": True}
    strings = {"type": "array", "items": text}
    return _object(
        {
            "name": text,
            "version": text,
            "kind": {"type": "string", "enum": ["text", "series"]},
            "task": {"type": "string", "enum": ["sequence", "step"]},
            "labels": strings,
            "input": _object(
                {
                    "item": text,
                    "channels": {**strings, "nullable": True},
                    "allow_missing": {"type": "boolean"},
                    "max_length": {**number, "description": "tokens or timesteps kept of a longer sequence"},
                    "max_timesteps": {**number, "description": "a longer sequence is refused"},
                }
            ),
            "abstaining": _nullable(
                {"target_precision": _PROBABILITY, "threshold": {**_PROBABILITY, "nullable": True}}
            ),
            "label_sets": _nullable({"coverage": _PROBABILITY, "threshold": _PROBABILITY}),
            "metrics": {"type": "object"},
            "data": {"type": "object", "description": "what the model was trained on, with its fingerprint"},
            "created_at": text,
            "digest": text,
            "drift": _drift(),
            "engine": text,
            "device": text,
            "trained_with": text,
            "gatewise": text,
        }
    )


def _drift() -> Schema:
    state = {"type": "string", "enum": list(get_args(State))}
    index = {"type": "number", "minimum": 0}
    shares = {"type": "array", "items": _PROBABILITY, "description": "share of each bin"}
    measure = _object({"psi": index, "chance": index, "state": state, "now": shares})
    measures = {"type": "object", "additionalProperties": measure}
    what = "how far the sequences of the last while, of the worker that answers, are from those of training"
    schema = _nullable({"state": state, "sequences": {"type": "integer"}, "measures": measures})
    return {**schema, "description": what}


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _nullable(properties: Schema) -> Schema:
    return {**_object(properties), "nullable": True}


def _get(operation: str, what: str, content: Schema, *, errors: tuple[int, ...]) -> Schema:
    return {
        "operationId": operation,
        "summary": what,
        "responses": {
            "200": {"description": what, "content": content},
            **{str(status): _error(status) for status in errors},
        },
    }


def _error(status: int) -> Schema:
    what, code, message = _ERRORS[status]
    body: Schema = {"error": message, "code": code, "details": []}
    response: Schema = {"description": what, "content": _json(_ref("Error"), body)}
    if status == 429:
        response["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
    return response


def _json(schema: Schema, example: Any = None) -> Schema:
    return {"application/json": {"schema": schema} | ({} if example is None else {"example": example})}


def _text(media_type: str) -> Schema:
    return {media_type: {"schema": {"type": "string"}}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _noun(card: Mapping[str, Any]) -> str:
    what = "text" if card["kind"] == "text" else "time series"
    return f"each step of {what}" if card["task"] == "step" else what
