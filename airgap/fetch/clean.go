package fetch

import (
	"net/url"
	"regexp"
	"strings"
)

// maxURL is the length in characters of the longest URL in a message.
const maxURL = 200

// urlText matches a URL in a text, up to the next space or quotation mark.
var urlText = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+`)

// badLocation matches what net/http says about a Location header that is not a URL. It repeats the
// header, which a server can make three megabytes long.
var badLocation = regexp.MustCompile(`(?s)(failed to parse Location header).*`)

// cleanText returns text with each URL as CleanURL returns it.
func cleanText(text string) string {
	return urlText.ReplaceAllStringFunc(badLocation.ReplaceAllString(text, "$1"), CleanURL)
}

// CleanURL returns a URL for a message: without user, password, query and fragment, each of which can be
// what permits the request, such as the signature in the URL of a CDN, and shortened. It need not be
// valid.
func CleanURL(text string) string {
	end := strings.TrimRight(text, ".,:;)")
	rest := text[len(end):]
	end, _, _ = strings.Cut(end, "#")
	end, _, _ = strings.Cut(end, "?")
	if scheme, path, ok := strings.Cut(end, "://"); ok {
		host, path, slash := strings.Cut(path, "/")
		host = host[strings.LastIndex(host, "@")+1:]
		if end = scheme + "://" + host; slash {
			end += "/" + path
		}
	}
	if runes := []rune(end); len(runes) > maxURL {
		end = string(runes[:maxURL]) + "…"
	}
	return end + rest
}

// withoutQuery returns a URL for a message, as CleanURL does.
func withoutQuery(u *url.URL) string { return CleanURL(u.String()) }

// cleanError is an error whose text has no secret and no endless URL. The text is built once.
type cleanError struct {
	text string
	err  error
}

func (e *cleanError) Error() string { return e.text }
func (e *cleanError) Unwrap() error { return e.err }

// cleanUp returns err with its text as cleanText returns it.
func cleanUp(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if clean := cleanText(text); clean != text {
		return &cleanError{clean, err}
	}
	return err
}
