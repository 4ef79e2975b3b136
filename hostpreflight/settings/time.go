package settings

import (
	"fmt"
	"slices"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// TimeChecks are those of the clock against other clocks.
func TimeChecks() []hp.Check {
	return []hp.Check{
		{ID: "clock-offset", Group: "Time", Title: "Clock against other clocks", Severity: hp.Fail,
			Wants: "within 5 minutes of the online sources' clocks; warns when nothing steers it and it is a minute off the hardware's",
			Why:   "certificates and tokens made here would not be valid yet, or no more, elsewhere (Kerberos and S3 draw the line at 5 and 15 minutes).",
			Run:   hp.Told(facts.FactClock, clockOffset)},
		{ID: "clock-source", Group: "Time", Title: "Clock source", Severity: hp.Warn,
			Wants: "tsc, a hypervisor's (kvm-clock, hyperv_clocksource_tsc_page, xen) or arch_sys_counter",
			Why:   "others cost a system call and a slow device each time a program asks for the time, and etcd asks often.",
			Run:   hp.Told(facts.FactClock, clockSource)},
		{ID: "time-zone", Group: "Time", Title: "Time zone", Severity: hp.Warn,
			Wants: "/etc/localtime leads to a zone; logs of several hosts are easiest to compare in UTC",
			Why:   "programs silently take UTC when it leads nowhere, others refuse to start; kURL warns of any zone but UTC.",
			Run:   hp.Told(facts.FactClock, timeZone)},
	}
}

const clockFix = "sudo timedatectl set-ntp true, or set it by hand: sudo timedatectl set-time 'YYYY-MM-DD HH:MM:SS'"

func clockOffset(f facts.Facts, _ hp.Want) hp.Result {
	for _, s := range f.Sources {
		if s.Offset.Abs() >= 5*time.Minute {
			return hp.Failed(clockFix, "%s", apart(f.Clock.Now.Add(s.Offset), f.Clock.Now, "the clock of "+s.URL))
		}
	}
	rtc := f.Clock.RTC
	switch {
	case f.Clock.Synced:
		return hp.Passed("steered")
	case rtc.IsZero():
		return hp.Skip("install", "neither an online source nor a hardware clock to hold it against")
	case rtc.Sub(f.Clock.Now).Abs() >= time.Minute:
		return hp.Warned(clockFix+"\nor, if the host's clock is the right one: sudo hwclock --systohc", "%s", apart(rtc, f.Clock.Now, "the hardware's clock"))
	}
	return hp.Passed("as the hardware's clock")
}

// apart says how far the host's clock is from another.
func apart(other, host time.Time, whose string) string {
	by := host.Sub(other).Round(time.Second)
	how := "ahead of"
	if by < 0 {
		by, how = -by, "behind"
	}
	return fmt.Sprintf("the clock is %s %s %s", by, how, whose)
}

func clockSource(f facts.Facts, _ hp.Want) hp.Result {
	s := f.Clock.Source
	good := []string{"tsc", "tsc-early", "kvm-clock", "hyperv_clocksource_tsc_page", "hyperv_clocksource", "xen", "arch_sys_counter", "ptp"}
	switch {
	case s == "":
		return hp.CannotTell("/sys does not say")
	case slices.Contains(good, s):
		return hp.Passed("%s", s)
	}
	return hp.Warned("let the hypervisor offer a steady tsc or its own clock; clocksource=tsc on the kernel's command line, where dmesg does not call it unstable", "%s", s)
}

func timeZone(f facts.Facts, _ hp.Want) hp.Result {
	if f.Clock.Zone == "" {
		return hp.Warned("sudo timedatectl set-timezone UTC", "/etc/localtime leads nowhere")
	}
	return hp.Passed("%s", f.Clock.Zone)
}
