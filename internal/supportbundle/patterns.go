package supportbundle

import (
	"regexp"
	"strings"
)

// pattern is a kind of secret in a line of text: the parts in groups are replaced.
type pattern struct {
	id     string
	words  []string // in lower case: only lines with one of them are searched; nil for sensitiveStems
	match  *regexp.Regexp
	accept func(value string) bool // reports whether a match is a secret; nil for always
}

// sensitiveWords are the ends of names of settings whose values are secret.
const sensitiveWords = `password|passwd|passphrase|passwort|pwd|secret|token|api[_-]?key|access[_-]?key|access[_-]?key[_-]?id|private[_-]?key|` +
	`secret[_-]?key|session[_-]?key|encryption[_-]?key|signing[_-]?key|client[_-]?key[_-]?data|account[_-]?key|shared[_-]?key|credentials?|bcrypt|` +
	`signature|license[_-]?id|connection[_-]?string|dsn|auth[_-]?string|webhook[_-]?url|htpasswd`

// sensitiveStems are parts of sensitiveWords: a line without all of them has none of these. Regular expressions are slow,
// and most lines of a log have no secret.
var sensitiveStems = []string{"pass", "pwd", "secret", "token", "key", "credential", "bcrypt", "signature", "licenseid", "license_id", "license-id",
	"string", "dsn", "webhook"}

var (
	sensitiveKey  = regexp.MustCompile(`(?i)(?:` + sensitiveWords + `)$`)
	harmlessValue = regexp.MustCompile(`(?i)^(true|false|files|compat|sss|null|none|nil|yes|no|on|off|~|-|<[a-z ]*>|\*+|x+|\d{1,3}|\[\]|\{\}|)$`)
)

// isSensitiveKey reports whether the value of the setting key is secret.
func isSensitiveKey(key string) bool { return sensitiveKey.MatchString(key) }

// isHarmless reports whether v is no secret, whatever its name is, or is masked already.
func isHarmless(v string) bool {
	return harmlessValue.MatchString(v) || strings.HasPrefix(v, markBegin)
}

// isCredential reports whether v is not a word.
func isCredential(v string) bool { return looksRandom(v) || strings.HasSuffix(v, "=") || len(v) >= 40 }

// value matches the value of a setting: in quotes, in escaped quotes, or without any.
const value = `(?:"((?:[^"\\]|\\.)+)"|'([^']+)'|\\+"([^"\\]+)\\*"|([^\s"'\\,;&{}\[\]()<>]{3,}))`

// patterns are the kinds of secrets, most specific first.
var patterns = []pattern{
	{"plinth-token", []string{"plinth1-"}, regexp.MustCompile(`(plinth1-[A-Za-z0-9_-]+(?:-[A-Za-z0-9_=+/-]+)*)`), nil},
	{"k0s-token", []string{"h4si"}, regexp.MustCompile(`(H4sI[A-Za-z0-9+/_=-]{60,})`), nil},
	{"jwt", []string{"eyj"}, regexp.MustCompile(`\b(eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?)`), nil},
	{"age-key", []string{"age-secret-key-"}, regexp.MustCompile(`(?i)(AGE-SECRET-KEY-[A-Z0-9-]{20,})`), nil},
	{"password-hash", []string{"$1$", "$2", "$5$", "$6$", "$7$", "$y$", "$gy$", "$apr1$", "$argon2", "$scrypt", "$pbkdf2"}, regexp.MustCompile(`(\$(?:2[abxy]?|1|5|6|7|y|gy|apr1|argon2(?:id?|d)|scrypt|pbkdf2-?\w*)\$[^\s"'\\:,]{16,})`), nil},
	{"aws-key-id", []string{"akia", "asia", "aroa", "aida"}, regexp.MustCompile(`\b((?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16})\b`), nil},
	{"google-key", []string{"aiza"}, regexp.MustCompile(`(AIza[0-9A-Za-z_-]{30,})`), nil},
	{"google-oauth", []string{"ya29."}, regexp.MustCompile(`(ya29\.[0-9A-Za-z_-]{20,})`), nil},
	{"github-token", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, regexp.MustCompile(`\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})`), nil},
	{"gitlab-token", []string{"glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glsoat-"}, regexp.MustCompile(`\b(gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{16,})`), nil},
	{"slack-token", []string{"xox"}, regexp.MustCompile(`\b(xox[a-z]-[A-Za-z0-9-]{10,})`), nil},
	{"slack-webhook", []string{"hooks.slack.com"}, regexp.MustCompile(`hooks\.slack\.com/services/([A-Za-z0-9/_-]+)`), nil},
	{"payment-key", []string{"_live_"}, regexp.MustCompile(`\b([srp]k_live_[A-Za-z0-9]{10,})`), nil},
	{"npm-token", []string{"npm_"}, regexp.MustCompile(`\b(npm_[A-Za-z0-9]{30,})`), nil},
	{"pypi-token", []string{"pypi-"}, regexp.MustCompile(`\b(pypi-[A-Za-z0-9_-]{30,})`), nil},
	{"docker-token", []string{"dckr_pat_"}, regexp.MustCompile(`\b(dckr_pat_[A-Za-z0-9_-]{16,})`), nil},
	{"sendgrid-key", []string{"sg."}, regexp.MustCompile(`\b(SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})`), nil},
	{"vault-token", []string{"hvs.", "hvb.", "hvr."}, regexp.MustCompile(`\b(hv[sbr]\.[A-Za-z0-9_-]{20,})`), nil},
	{"model-key", []string{"sk-"}, regexp.MustCompile(`\b(sk-[A-Za-z0-9_-]{20,})`), nil},
	{"url-password", []string{"@"}, regexp.MustCompile(`\w://[^/\s:@"'\\]*:([^\s"'\\/]+)@`), nil},
	{"url-token", []string{"@"}, regexp.MustCompile(`\w://([A-Za-z0-9_.-]{20,})@`), nil},
	{"dsn-password", []string{"@tcp(", "@udp(", "@unix("}, regexp.MustCompile(`[\w.-]+:([^\s:@"'\\]+)@(?:tcp|udp|unix)\(`), nil},
	{"url-signature", []string{"sig=", "signature=", "credential=", "token=", "code=", "key="}, regexp.MustCompile(`(?i)[?&;](?:sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|access_token|code|key|token)=([^\s&"'\\]{8,})`), nil},
	{"authorization", []string{"authorization"}, regexp.MustCompile(
		`(?i)authorization\\*["']?\s*[:=]\s*\\*["'\[]*\s*(?:(?:bearer|basic|digest|negotiate|token|apikey|aws4-hmac-sha256)\s+)?([^\s"'\\\]][^"'\\\]]*)`), nil},
	{"bearer", []string{"bearer"}, regexp.MustCompile(`(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{8,})`), isCredential},
	{"basic-auth", []string{"basic"}, regexp.MustCompile(`(?i)\bbasic\s+([A-Za-z0-9+/]{8,}={0,2})`), isCredential},
	{"cookie", []string{"cookie"}, regexp.MustCompile(`(?i)\b(?:set-)?cookie\\*["']?\s*[:=]\s*\\*["'\[]*([^"'\\\]]+)`), nil},
	{"registry-auth", []string{"auth"}, regexp.MustCompile(`\\*"auth\\*"\s*:\s*\\*"([^"\\]+)\\*"`), nil},
	{"identity-token", []string{"identitytoken"}, regexp.MustCompile(`\\*"identitytoken\\*"\s*:\s*\\*"([^"\\]+)\\*"`), nil},
	{"yaml-auth", []string{"auth:"}, regexp.MustCompile(`\bauth:\s*["']?([A-Za-z0-9+/]{8,}={0,2})["']?\s*$`), isCredential},
	{"license-signature", []string{"v1:"}, regexp.MustCompile(`\bv[12]:\s*["']?([A-Za-z0-9+/=]{60,})`), nil},
	{"flag", nil, regexp.MustCompile(`(?i)(?:^|[\s"'\[,])-{1,2}[\w-]{0,64}(?:` + sensitiveWords + `)(?:[ =]|",\s*")+` + value), isFlagValue},
	{"user-password", []string{"-u ", "-user"}, regexp.MustCompile(`(?:^|\s)(?:-u|--user)[ =]\S+?:(\S+)`), nil},
	{"netrc", []string{"login"}, regexp.MustCompile(`(?i)\blogin\s+\S+\s+password\s+(\S+)`), nil},
	{"sql-password", []string{"identified", "password '"}, regexp.MustCompile(`(?i)\b(?:identified\s+by|password)\s+'([^']+)'`), nil},
	{"env", []string{`"value`}, regexp.MustCompile(`(?i)\\*"name\\*"\s*:\s*\\*"[^"\\]*(?:` + sensitiveWords + `)\\*"\s*,\s*\\*"value\\*"\s*:\s*\\*"([^"\\]+)\\*"`), nil},
	{"shadow", []string{":$", ":_"}, regexp.MustCompile(`^[a-z_][a-z0-9_-]*:(\$[^:]+|_[./A-Za-z0-9]{19}):`), nil},
	{ruleValue, nil, regexp.MustCompile(`(?i)(?:` + sensitiveWords + `)(?:\\*["']?\s*(?::=|=>|=)\s*|\\*["']?:|\\*["']\s*:\s*)` + value), nil},
	{ruleValue, nil, regexp.MustCompile(`(?i)^\s*(?:-\s+)?["']?[\w.-]{0,128}(?:` + sensitiveWords + `)["']?:\s+` + value), nil},
	{ruleValue, []string{"pass"}, regexp.MustCompile(`(?i)(?:password|passwd|passphrase):\s+` + value), nil},
	// In a sentence, most words after such a name are not secret.
	{ruleValue, nil, regexp.MustCompile(`(?i)(?:` + sensitiveWords + `):\s+` + value), isCredential},
}

// isFlagValue reports whether v is the value of a flag, and not the next flag or a path of a file with it.
func isFlagValue(v string) bool { return !strings.HasPrefix(v, "-") }

// redactPatterns returns line with what matches patterns replaced by marks.
func redactPatterns(line string) string {
	if strings.TrimSpace(line) == "" {
		return line
	}
	lower := strings.ToLower(line)
	sensitive := containsAny(lower, sensitiveStems)
	for _, p := range patterns {
		if p.words == nil && sensitive || containsAny(lower, p.words) {
			line = p.redact(line)
		}
	}
	return redactBootstrapTokens(line)
}

func containsAny(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// Lengths of the id and the secret of a bootstrap token (k8s.io/cluster-bootstrap, token/api).
const (
	tokenIDLength     = 6
	tokenSecretLength = 16
)

// redactBootstrapTokens returns line without the secrets of bootstrap tokens, such as abcdef.0123456789abcdef. Almost
// every line has a dot, so this is no regular expression.
func redactBootstrapTokens(line string) string {
	for from := 0; ; {
		dot := strings.IndexByte(line[from:], '.')
		if dot < 0 {
			return line
		}
		dot += from
		begin, end := dot-tokenIDLength, dot+1+tokenSecretLength
		if begin >= 0 && end <= len(line) && isTokenText(line[begin:dot]) && isTokenText(line[dot+1:end]) && looksRandom(line[begin:end]) &&
			(begin == 0 || !isTokenText(line[begin-1:begin])) && (end == len(line) || !isTokenText(line[end:end+1])) {
			line = line[:dot+1] + mark("bootstrap-token") + line[end:]
		}
		from = dot + 1
	}
}

// isTokenText reports whether s has only characters of bootstrap tokens.
func isTokenText(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// redact returns line with the groups of p's matches replaced by marks. Harmless and masked values stay.
func (p pattern) redact(line string) string {
	found := p.match.FindAllStringSubmatchIndex(line, -1)
	if found == nil {
		return line
	}
	var out strings.Builder
	at := 0
	for _, m := range found {
		for g := 2; g < len(m); g += 2 {
			from, to := m[g], m[g+1]
			if from < at || from < 0 {
				continue
			}
			v := line[from:to]
			if isHarmless(v) || strings.Contains(v, markBegin) || p.accept != nil && !p.accept(v) {
				continue
			}
			out.WriteString(line[at:from])
			out.WriteString(mark(p.id))
			at = to
		}
	}
	out.WriteString(line[at:])
	return out.String()
}
