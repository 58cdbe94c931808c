"""schemathesis, on the server's own OpenAPI document"""

import os

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

PACKAGE = "schemathesis"
NUM_EXAMPLES = int(os.environ.get("JUDGE_EXAMPLES", "25"))

# No schema can say that a tool's result answers a call of the same conversation, that one field
# wants another, or that 5.0 is no integer here; such requests are refused with 400. And the server
# is kinder than its schemas, which show how to ask, where clients are known to be careless.
NOT_JUDGED = [positive_data_acceptance, negative_data_rejection]

HEADERS = {"Authorization": f"Bearer {os.environ['JUDGED_KEY']}"}
schema = schemathesis.openapi.from_url(os.environ["JUDGED_URL"] + "/openapi.json", headers=HEADERS)


@schema.parametrize()
@settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_keeps_its_word(case):
    case.call_and_validate(headers=HEADERS, timeout=60, excluded_checks=NOT_JUDGED)
