package kots

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
)

// License are the fields of a KOTS license that Plinth uses. A license is a
// secret: its id gives access to the vendor's registry.
type License struct {
	Slug    string    // slug of the application
	Channel string    // name of the release channel
	Airgap  bool      // it allows air-gapped installs
	Expires time.Time // zero if it never expires
}

// licenseManifest are the fields that are read from a License (kots.io/v1beta1
// or v1beta2).
type licenseManifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Spec       struct {
		AppSlug           string `yaml:"appSlug"`
		ChannelName       string `yaml:"channelName"`
		LicenseID         string `yaml:"licenseID"`
		Signature         string `yaml:"signature"`
		IsAirgapSupported bool   `yaml:"isAirgapSupported"`
		Entitlements      map[string]struct {
			Value any `yaml:"value"`
		} `yaml:"entitlements"`
	} `yaml:"spec"`
}

// ReadLicense parses and validates a license, which KOTS itself does only once
// the cluster and the console are up. Only KOTS can verify whether the
// signature is genuine. The error is a Problem with exit code 3 that contains
// all findings.
func ReadLicense(b []byte, now time.Time) (License, error) {
	l, err := parseLicense(b, now)
	if err != nil {
		return l, problem.New(problem.ExitConfig, "use the license", err, "download the license again, or ask the application's vendor for it")
	}
	return l, nil
}

func parseLicense(b []byte, now time.Time) (License, error) {
	var m licenseManifest
	if err := yaml.Unmarshal(b, &m); err != nil {
		// The decoder's message may quote the license.
		return License{}, errors.New("it is not a valid license in YAML")
	}
	if m.Kind != "License" || m.APIVersion != "kots.io/v1beta1" && m.APIVersion != "kots.io/v1beta2" {
		return License{}, errors.New("it is not a License of kots.io/v1beta1 or kots.io/v1beta2")
	}
	l := License{Slug: m.Spec.AppSlug, Channel: m.Spec.ChannelName, Airgap: m.Spec.IsAirgapSupported}
	var errs []error
	for _, f := range []struct{ name, value string }{
		{"appSlug", m.Spec.AppSlug}, {"licenseID", m.Spec.LicenseID}, {"signature", m.Spec.Signature},
	} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("spec.%s is empty", f.name))
		}
	}
	if _, err := base64.StdEncoding.DecodeString(m.Spec.Signature); err != nil {
		errs = append(errs, errors.New("spec.signature is truncated or altered"))
	}
	var err error
	if l.Expires, err = parseExpiry(m.Spec.Entitlements["expires_at"].Value); err != nil {
		errs = append(errs, err)
	} else if !l.Expires.IsZero() && l.Expires.Before(now) {
		errs = append(errs, fmt.Errorf("it expired on %s", l.Expires.UTC().Format("2006-01-02")))
	}
	return l, errors.Join(errs...)
}

func parseExpiry(value any) (time.Time, error) {
	switch v := value.(type) {
	case nil:
		return time.Time{}, nil
	case time.Time:
		return v, nil
	case string:
		if v == "" {
			return time.Time{}, nil
		}
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return t, errors.New("the entitlement expires_at is not a time")
		}
		return t, nil
	}
	return time.Time{}, errors.New("the entitlement expires_at is not a time")
}

// CheckLicense verifies that a license and a bundle belong to the same
// application, and that the license allows the install. bundle is nil for an
// online install.
func CheckLicense(l License, bundle *AppBundle, airgap bool) error {
	var errs []error
	if airgap && !l.Airgap {
		errs = append(errs, errors.New("the license does not allow air-gapped installs"))
	}
	if bundle != nil && bundle.Slug != l.Slug {
		errs = append(errs, fmt.Errorf("the license is for application %q, the bundle is for %q", l.Slug, bundle.Slug))
	}
	if len(errs) == 0 {
		return nil
	}
	return problem.New(problem.ExitConfig, "install the application with this license", errors.Join(errs...), "ask the application's vendor for a matching license")
}
