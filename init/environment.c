#include "environment.h"

#include <stdio.h>
#include <string.h>

/* Not OPENSHELL_SANDBOX_TOKEN: gVisor shows one's environment to others of one's user id, so it takes the pipe. */
static const char *const allowed[] = {
	"OPENSHELL_SANDBOX_ID", "OPENSHELL_SANDBOX", "OPENSHELL_ENDPOINT", "OPENSHELL_SSH_SOCKET_PATH",
	"OPENSHELL_MAIN_PROCESS_SPEC", "OPENSHELL_USER_ENVIRONMENT", "OPENSHELL_TELEMETRY_ENABLED",
	"OPENSHELL_NETWORK_RUNTIME_CAPABILITIES", "OPENSHELL_TLS_CA", "OPENSHELL_TLS_CERT", "OPENSHELL_TLS_KEY",
	"OPENSHELL_K8S_SA_TOKEN_FILE", "OPENSHELL_SANDBOX_TOKEN_FILE",
	"OPENSHELL_GATEWAY_TLS_SERVER_NAME", "OPENSHELL_OCI_IMAGE_USER", "OPENSHELL_SANDBOX_UID", "OPENSHELL_SANDBOX_GID",
	"OPENSHELL_LOG_LEVEL", "OPENSHELL_CONTAINER_IMAGE", "OPENSHELL_PROVIDER_SPIFFE_WORKLOAD_API_SOCKET",
	"OPENSHELL_SUPERVISOR_TOPOLOGY", "OPENSHELL_NETWORK_ENFORCEMENT_MODE", "OPENSHELL_SIDECAR_CONTROL_SOCKET",
	"OPENSHELL_PROXY_TLS_DIR", "OPENSHELL_NETWORK_BINARY_IDENTITY", "OPENSHELL_POLICY_RULES", "OPENSHELL_POLICY_DATA",
	"OPENSHELL_INFERENCE_ROUTES", "OPENSHELL_POLICY_POLL_INTERVAL_SECS", "OPENSHELL_DENIAL_FLUSH_INTERVAL_SECS",
	"OPENSHELL_ACTIVITY_FLUSH_INTERVAL_SECS", "OPENSHELL_ROUTE_REFRESH_INTERVAL_SECS", "OPENSHELL_LOG_PUSH_LEVEL",
	"OPENSHELL_REQUIRE_RUNTIME_PID_LIMIT",
};

void environment_forget(char *const inherited[])
{
	for (char *const *variable = inherited; *variable; variable++)
		explicit_bzero(*variable, strlen(*variable));
}

void environment_for_supervisor(char *const inherited[], const struct home *home, char *out[SUPERVISOR_ENV_MAX])
{
	static char openssl[PATH_MAX + 64], self[PATH_MAX + 64];
	size_t count = 0;

	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
		size_t length = strlen(allowed[i]);
		for (char *const *variable = inherited; *variable; variable++)
			if (!strncmp(*variable, allowed[i], length) && (*variable)[length] == '=') {
				out[count++] = *variable;
				break; /* the first one counts, as getenv(3) has it */
			}
	}
	/* OpenSSL would otherwise read the file that its build baked in, which the image could supply. */
	snprintf(openssl, sizeof openssl, "OPENSSL_CONF=%s/openssl.cnf", home->libraries);
	snprintf(self, sizeof self, "OPENSHELL_INIT_LAUNCHER=%s", home->shim);
	out[count++] = openssl;
	out[count++] = self;
	/* The young generation would grow to 48 MiB under load and never shrink: a sandbox is one of many on its node. */
	out[count++] = (char *)"NODE_OPTIONS=--max-semi-space-size=2";
	/* glibc's malloc would give each thread an arena of its own: some 8 MiB for no speed that we need. */
	out[count++] = (char *)"MALLOC_ARENA_MAX=1";
	/* Else it learns at the start, when V8 compiles, to keep 4 MiB that nobody needs again (mallopt(3), M_TRIM_THRESHOLD). */
	out[count++] = (char *)"MALLOC_TRIM_THRESHOLD_=131072";
	/* No passwd look-up for a home directory (NSS would load the image's libraries), no zone files. */
	out[count++] = (char *)"HOME=/nonexistent";
	out[count++] = (char *)"TZ=UTC";
	out[count++] = (char *)"PATH=/nonexistent";
	out[count] = NULL;
}
