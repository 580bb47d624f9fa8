"""Makes buckets on a server that was just started, waiting for it: PUT requests signed by AWS's version 4 (stdlib alone).

s3_bucket.py ENDPOINT SECONDS BUCKET…; credentials and region from the AWS_… variables.
"""

import hashlib
import hmac
import os
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone


def make(endpoint: str, bucket: str) -> int:
    key, secret, region = (os.environ[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION"))
    now = datetime.now(timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    host = endpoint.split("://", 1)[1]
    empty = hashlib.sha256(b"").hexdigest()
    headers = {"host": host, "x-amz-content-sha256": empty, "x-amz-date": stamp}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"PUT\n/{bucket}\n\n{lines}\n{names}\n{empty}"
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signing = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
    sent = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT", headers=headers)
    try:
        with urllib.request.urlopen(sent, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def main() -> None:
    endpoint, seconds, *buckets = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    for bucket in buckets:
        # 409: it is there already.
        while (status := make(endpoint, bucket)) not in (200, 409):
            if time.monotonic() > end:
                sys.exit(f"{endpoint} does not make the bucket {bucket}: {status}")
            time.sleep(0.2)


main()
