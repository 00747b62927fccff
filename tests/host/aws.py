"""AWS Secrets Manager and SSM for tests/host/secrets.rs: moto, which checks every signature and permission.

Prints the credentials of a role as the metadata service gives them, then takes lines from standard input:
`secret NAME TEXT`, `parameter NAME TEXT`, `allow ACTION …` (the role's policy). Answers `ok` to each. Listens on
127.0.0.1:5055.
"""
import json
import os
import sys

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000000"
os.environ.update(AWS_ACCESS_KEY_ID="setup", AWS_SECRET_ACCESS_KEY="setup", AWS_DEFAULT_REGION="eu-central-1")

import boto3  # noqa: E402
from moto.core.responses import ActionAuthenticatorMixin  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

ENDPOINT = "http://127.0.0.1:5055"
ROLE = "web"

server = ThreadedMotoServer(ip_address="127.0.0.1", port=5055, verbose=False)
server.start()
iam, sts, secrets, ssm = (boto3.client(name, endpoint_url=ENDPOINT) for name in ("iam", "sts", "secretsmanager", "ssm"))
trust = {"Version": "2012-10-17", "Statement": []}
role = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
key = sts.assume_role(RoleArn=role, RoleSessionName="i-0123456789abcdef0")["Credentials"]


def checked(is_checked):
    """Requests of this program are not checked, those of the agent are."""
    ActionAuthenticatorMixin.request_count = 0
    limit = 0 if is_checked else 1000000
    os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(limit)
    import moto.settings

    moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = limit


def secret(name, text):
    try:
        secrets.create_secret(Name=name, SecretString=text)
    except secrets.exceptions.ResourceExistsException:
        secrets.put_secret_value(SecretId=name, SecretString=text)


def parameter(name, text):
    ssm.put_parameter(Name=name, Value=text, Type="SecureString", Overwrite=True)


def allow(*actions):
    # moto tests no resource of these two services: docs/using/aws.md names them.
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    iam.put_role_policy(RoleName=ROLE, PolicyName="read", PolicyDocument=json.dumps(policy))


print(
    json.dumps(
        {
            "Code": "Success",
            "AccessKeyId": key["AccessKeyId"],
            "SecretAccessKey": key["SecretAccessKey"],
            "Token": key["SessionToken"],
            "Expiration": key["Expiration"].isoformat(),
        }
    ),
    flush=True,
)
checked(True)
for line in sys.stdin:
    verb, *rest = line.rstrip("\n").split(" ")
    checked(False)
    if verb == "secret":
        secret(rest[0], " ".join(rest[1:]))
    elif verb == "parameter":
        parameter(rest[0], " ".join(rest[1:]))
    elif verb == "allow":
        allow(*rest)
    else:
        sys.exit(f"unknown: {verb}")
    checked(True)
    print("ok", flush=True)
