package checks

import (
	"fmt"
	"slices"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// timeChecks returns the checks of the clock, the clock source and the time zone.
func timeChecks() []hp.Check {
	return []hp.Check{
		{ID: "clock-offset", Group: "Time", Title: "Clock offset", Severity: hp.Fail,
			Expected:  "within 5 minutes of the online sources' clocks; warns if the clock is not synchronized and differs from the hardware clock by a minute",
			Rationale: "certificates and tokens created here would not be valid yet, or would be expired, on other hosts (Kerberos and S3 allow 5 and 15 minutes).",
			Run:       hp.RequireFact(facts.FactClock, checkClockOffset)},
		{ID: "clock-source", Group: "Time", Title: "Clock source", Severity: hp.Warn,
			Expected:  "tsc, a hypervisor's (kvm-clock, hyperv_clocksource_tsc_page, xen) or arch_sys_counter",
			Rationale: "others need a system call and a slow device access each time a program reads the time, and etcd reads it often.",
			Run:       hp.RequireFact(facts.FactClock, checkClockSource)},
		{ID: "time-zone", Group: "Time", Title: "Time zone", Severity: hp.Warn,
			Expected:  "a valid zone in /etc/localtime, preferably UTC, so that logs of several hosts can be compared",
			Rationale: "if it is not valid, some programs silently use UTC and others do not start; kURL warns of any zone but UTC.",
			Run:       hp.RequireFact(facts.FactClock, checkTimeZone)},
	}
}

const setClockFix = "sudo timedatectl set-ntp true, or set it manually: sudo timedatectl set-time 'YYYY-MM-DD HH:MM:SS'"

func checkClockOffset(f facts.Facts, _ hp.Requirements) hp.Result {
	for _, s := range f.Sources {
		if s.Offset.Abs() >= 5*time.Minute {
			return hp.Failed(setClockFix, "%s", describeClockOffset(f.Clock.Now.Add(s.Offset), f.Clock.Now, "the clock of "+s.URL))
		}
	}
	rtc := f.Clock.RTC
	switch {
	case f.Clock.Synced:
		return hp.Passed("synchronized")
	case rtc.IsZero():
		return hp.Skip("install", "neither an online source nor a hardware clock to compare with")
	case rtc.Sub(f.Clock.Now).Abs() >= time.Minute:
		return hp.Warned(setClockFix+"\nor, if the system clock is right: sudo hwclock --systohc", "%s", describeClockOffset(rtc, f.Clock.Now, "the hardware clock"))
	}
	return hp.Passed("agrees with the hardware clock")
}

// describeClockOffset returns how far the host's clock is ahead of or behind other,
// the clock called whose.
func describeClockOffset(other, host time.Time, whose string) string {
	by := host.Sub(other).Round(time.Second)
	how := "ahead of"
	if by < 0 {
		by, how = -by, "behind"
	}
	return fmt.Sprintf("the clock is %s %s %s", by, how, whose)
}

func checkClockSource(f facts.Facts, _ hp.Requirements) hp.Result {
	s := f.Clock.Source
	good := []string{"tsc", "tsc-early", "kvm-clock", "hyperv_clocksource_tsc_page", "hyperv_clocksource", "xen", "arch_sys_counter", "ptp"}
	switch {
	case s == "":
		return hp.Undetermined("/sys does not report it")
	case slices.Contains(good, s):
		return hp.Passed("%s", s)
	}
	return hp.Warned("configure the hypervisor to provide a stable tsc or its own clock; or, if dmesg does not call tsc unstable, boot with clocksource=tsc on the kernel command line", "%s", s)
}

func checkTimeZone(f facts.Facts, _ hp.Requirements) hp.Result {
	if f.Clock.Zone == "" {
		return hp.Warned("sudo timedatectl set-timezone UTC", "/etc/localtime is not a valid zone")
	}
	return hp.Passed("%s", f.Clock.Zone)
}
