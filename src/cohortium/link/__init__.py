"""The link between hub and nodes.

gRPC reads its cipher suites from the environment when it is first imported, so this package sets
them before any of its modules imports gRPC. The one TLS 1.2 suite named needs an RSA certificate
and the consortium has only ECDSA ones: no TLS 1.2 handshake succeeds. TLS 1.3 suites are not
affected. `cohortium.link.tls.require_tls13` refuses to open a link where another package had
imported gRPC before.
"""

import os
import sys

_SUITES = "ECDHE-RSA-AES256-GCM-SHA384"

TLS13_ONLY = "grpc" not in sys.modules or os.environ.get("GRPC_SSL_CIPHER_SUITES") == _SUITES

os.environ["GRPC_SSL_CIPHER_SUITES"] = _SUITES
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
