package spec

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// Schedule is when backups are written.
type Schedule struct {
	Calendar string        // in the words of systemd's OnCalendar (systemd.time(7))
	Interval time.Duration // between two backups
	Delay    time.Duration // largest random delay, so that the controllers do not write at once
}

// ParseSchedule parses the schedule of an Installer. It accepts a small part of what systemd accepts, so that a text that
// lint accepts means the same on each host. The error completes a sentence that begins with the text.
func ParseSchedule(text string) (Schedule, error) {
	const hour, day, week = time.Hour, 24 * time.Hour, 7 * 24 * time.Hour
	switch text {
	case "hourly":
		return Schedule{Calendar: "hourly", Interval: hour, Delay: 10 * time.Minute}, nil
	case "daily":
		return Schedule{Calendar: "daily", Interval: day, Delay: 30 * time.Minute}, nil
	case "weekly":
		return Schedule{Calendar: "weekly", Interval: week, Delay: 30 * time.Minute}, nil
	}
	s, clock := Schedule{Calendar: "*-*-*", Interval: day, Delay: 30 * time.Minute}, text
	if weekday, rest, ok := strings.Cut(text, " "); ok {
		if len(weekday) != 3 || !strings.Contains("Mon Tue Wed Thu Fri Sat Sun", weekday) {
			return Schedule{}, errors.New("is not a schedule")
		}
		s.Calendar, s.Interval, clock = weekday+" *-*-*", week, rest
	}
	if _, err := time.Parse("15:04", clock); err != nil || len(clock) != len("15:04") {
		return Schedule{}, errors.New("is not a schedule")
	}
	s.Calendar += " " + clock + ":00"
	return s, nil
}

// maxBackups is the largest number of backups that are kept.
const maxBackups = 10000

// maxRecipients is the largest number of public keys of a backup.
const maxRecipients = 20

// checkBackupTarget checks where backups are written.
func checkBackupTarget(value string) (message, hint string) {
	if strings.HasPrefix(value, "s3:") {
		if !regexp.MustCompile(`^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9][A-Za-z0-9._-]*)*$`).MatchString(value) {
			return strictyaml.QuoteValue(value) + " is not the URL of a bucket", "such as s3://backups/my-app"
		}
		return "", ""
	}
	return checkHostFolder(value, "such as /mnt/backup/my-app")
}

// checkRecipient checks that value has the form of a public key of age. The message does not contain the value, which may be
// a private key.
func checkRecipient(value string) (message, hint string) {
	const example = "write the public key, which begins with age1; `age-keygen` prints it"
	switch {
	case strings.Contains(strings.ToUpper(value), "AGE-SECRET-KEY"):
		return "is a private key, which must stay secret", example + "; create a new pair, because this one is in a file that is handed out"
	case len(value) < 62 || len(value) > 4096 || !strings.HasPrefix(value, "age1") || strings.Trim(value, "abcdefghijklmnopqrstuvwxyz0123456789") != "":
		return "is not a public key of age", example
	}
	return "", ""
}

// checkBackup checks the numbers of a schedule of backups.
func (r reader) checkBackup(b *Backup) {
	const path = "spec.backup"
	if b == nil {
		return
	}
	if b.Keep < 1 || b.Keep > maxBackups {
		r.Report("backup-keep", path+".keep", r.NodeAt(path+".keep", path), fmt.Sprintf("%d is not between 1 and %d", b.Keep, maxBackups), "such as 14")
	}
	if n := len(b.Recipients); n < 1 || n > maxRecipients {
		r.Report("backup-recipient", path+".recipients", r.NodeAt(path+".recipients", path), fmt.Sprintf("has %d public keys, 1 to %d are possible", n, maxRecipients),
			"create a key pair with `age-keygen`, keep the private key away from the cluster, and write the public key here")
	}
}
