package supportbundle

import "strings"

// Kind is a kind of secret: a text that has it, as it is written somewhere, and the secret itself.
type kind struct{ name, text, secret string }

// kinds returns texts with secrets. Each is invented.
func kinds() []kind {
	key := "-----BEGIN RSA PRIVATE KEY-----\nMIIEfakeRsaLineOneAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nfakeRsaLineTwoBBBBBBBBBBBBBBBBBBBB==\n-----END RSA PRIVATE KEY-----"
	ssh := "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaFakeLineCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC\n-----END OPENSSH PRIVATE KEY-----"
	pgp := "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQdGBFfakePgpLineDDDDDDDDDDDDDDDDDDDDDDD\n-----END PGP PRIVATE KEY BLOCK-----"
	long := strings.Repeat("QUJDREVG", 20)
	return []kind{
		{"RSA key", key, "fakeRsaLineTwoBBBBBBBBBBBBBBBBBBBB=="},
		{"SSH key", ssh, "b3BlbnNzaFakeLineCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC"},
		{"PGP key", pgp, "lQdGBFfakePgpLineDDDDDDDDDDDDDDDDDDDDDDD"},
		{"key on one line", `key: "-----BEGIN PRIVATE KEY-----\nMIIfakePkcsLineEEEEEEEEEEEEEEEE\n-----END PRIVATE KEY-----\n"`, "MIIfakePkcsLineEEEEEEEEEEEEEEEE"},
		{"client key of a kubeconfig", "    client-key-data: LS0tLS1CRUdJTiBGQUtFIEtFWQ==", "LS0tLS1CRUdJTiBGQUtFIEtFWQ=="},
		{"token of a kubeconfig", "    token: kubeconfigFakeToken17", "kubeconfigFakeToken17"},
		{"join token of k0s", "k0s worker H4sIAAAAAAAC/" + long, long},
		{"join token of Plinth", "plinth join plinth1-212-9f8e-" + long, long},
		{"JWT", "sent eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJmYWtlIn0.c2lnbmF0dXJlLWZha2U", "eyJzdWIiOiJmYWtlIn0"},
		{"service account token", `"token": "eyJhbGciOiJSUzI1NiIsImtpZCI6IkZBS0UifQ.eyJmYWtlIjoyfQ.ZmFrZTI"`, "eyJmYWtlIjoyfQ"},
		{"bootstrap token", "bootstrap with abc123.0123456789abcdef", "0123456789abcdef"},
		{"bcrypt", "kotsadm $2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"},
		{"shadow", "root:$6$fakesalt$FakeHashFakeHashFakeHashFakeHash:19000:0:99999:7:::", "FakeHashFakeHashFakeHashFakeHash"},
		{"htpasswd", "user:$apr1$fakesalt$FakeAprHashFakeAprHash", "FakeAprHashFakeAprHash"},
		{"AWS key id", "using AKIAFAKEFAKEFAKEFAKE now", "AKIAFAKEFAKEFAKEFAKE"},
		{"AWS secret key", "AWS_SECRET_ACCESS_KEY=fakeAwsSecret/abcdefghijk+lmnopqrstuvwx", "fakeAwsSecret/abcdefghijk+lmnopqrstuvwx"},
		{"Google API key", "maps AIzaFakeFakeFakeFakeFakeFakeFakeFakeFak", "AIzaFakeFakeFakeFakeFakeFakeFakeFakeFak"},
		{"Azure account key", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=ZmFrZWF6dXJla2V5ZmFrZQ==;", "ZmFrZWF6dXJla2V5ZmFrZQ=="},
		{"Azure SAS", "GET https://a.blob.core.windows.net/b?sv=2020&sig=fakeSasSignature%2Babc", "fakeSasSignature%2Babc"},
		{"GitHub token", "clone with ghp_fakeFAKEfake0123456789fakeFAKEfake01", "ghp_fakeFAKEfake0123456789fakeFAKEfake01"},
		{"GitLab token", "glpat-fakeFake0123456789ab", "glpat-fakeFake0123456789ab"},
		{"Slack token", "xoxb-123456789012-fakefakefake", "xoxb-123456789012-fakefakefake"},
		{"Slack webhook", "post https://hooks.slack.com/services/T000/B000/fakefakefake", "T000/B000/fakefakefake"},
		{"payment key", "sk_live_fakefakefakefake01", "sk_live_fakefakefakefake01"},
		{"npm token", "//registry.npmjs.org/:_authToken=npm_fakefakefakefakefakefakefakefake0123", "npm_fakefakefakefakefakefakefakefake0123"},
		{"Vault token", "X-Vault-Header hvs.fakefakefakefakefakefake", "hvs.fakefakefakefakefakefake"},
		{"age key", "AGE-SECRET-KEY-1FAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKE", "1FAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKE"},
		{"URL with password", "proxy http://admin:Sup3rFake@proxy.example.com:3128/", "Sup3rFake"},
		{"database URL", "postgres://app:dbFakePass1@10.0.0.5:5432/app?sslmode=disable", "dbFakePass1"},
		{"MySQL DSN", "app:dsnFakePass2@tcp(10.0.0.5:3306)/app", "dsnFakePass2"},
		{"SQL Server", "Server=db;User Id=sa;Password=mssqlFakePass3;", "mssqlFakePass3"},
		{"Authorization: Bearer", "Authorization: Bearer bearerFakeToken4", "bearerFakeToken4"},
		{"Authorization: Basic", `{"Authorization":["Basic YWRtaW46ZmFrZXBhc3M1"]}`, "YWRtaW46ZmFrZXBhc3M1"},
		{"cookie", "Cookie: session-token=fakeCookieValue6; theme=dark", "fakeCookieValue6"},
		{"registry login", `{"auths":{"r.example.com":{"auth":"dXNlcjpmYWtlcGFzczc="}}}`, "dXNlcjpmYWtlcGFzczc="},
		{"flag with =", "/usr/bin/app --db-password=flagFakePass8 --verbose", "flagFakePass8"},
		{"flag with space", "/usr/bin/app --api-token flagFakePass9 --verbose", "flagFakePass9"},
		{"curl -u", "curl -u admin:curlFakePass10 https://x", "curlFakePass10"},
		{"environment", "export SMTP_PASSWORD='env fake pass 11'", "env fake pass 11"},
		{"environment of a container", `"env":[{"name":"DB_PASSWORD","value":"containerFakePass12"}]`, "containerFakePass12"},
		{"environment in YAML", "env:\n- name: REDIS_PASSWORD\n  value: yamlFakePass13", "yamlFakePass13"},
		{"word as a password", "password: hunter", "hunter"},
		{"number as a password", "password=495867", "495867"},
		{"password in a sentence", `level=info msg="login with password: plainword14"`, "plainword14"},
		{"block", "adminPassword: |\n  block fake pass 15\nnext: x", "block fake pass 15"},
		{"escaped JSON", `msg="{\"username\":\"a\",\"password\":\"escapedFakePass16\"}"`, "escapedFakePass16"},
		{"Secret in YAML", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  x: c2VjcmV0ZmFrZTE3\n", "c2VjcmV0ZmFrZTE3"},
		{"Secret in YAML, sorted", "apiVersion: v1\ndata:\n  x: c2VjcmV0ZmFrZTE4\nkind: Secret\n", "c2VjcmV0ZmFrZTE4"},
		{"text of a Secret", "kind: Secret\nstringData:\n  greeting: plain words 19\n", "plain words 19"},
		{"license id", "  licenseID: fakeLicenseId20", "fakeLicenseId20"},
		{"license signature", "  signature: " + strings.Repeat("ZmFrZTIx", 10), strings.Repeat("ZmFrZTIx", 10)},
		{"netrc", "machine r.example.com login a password netrcFakePass22", "netrcFakePass22"},
		{"SQL", "ALTER USER app IDENTIFIED BY 'sqlFakePass23'", "sqlFakePass23"},
		{"etcd encryption key", "        - name: key1\n          secret: ZmFrZWVuY3J5cHRpb25rZXkyNA==", "ZmFrZWVuY3J5cHRpb25rZXkyNA=="},
		{"WireGuard key", "PrivateKey = ZmFrZXdpcmVndWFyZGtleTI1ZmFrZXdpcmVndWFyZGtleTI=", "ZmFrZXdpcmVndWFyZGtleTI1ZmFrZXdpcmVndWFyZGtleTI="},
	}
}
