"""schemathesis, on the server's own OpenAPI document"""

import os

import schemathesis
from hypothesis import HealthCheck, Phase, settings

PACKAGE = "schemathesis"
NUM_EXAMPLES = int(os.environ.get("JUDGE_EXAMPLES", "25"))

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
    case.call_and_validate(headers=HEADERS, timeout=60)
