package upgrade

import (
	"maps"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// chartsPath is the path of the charts of a vendor.
const chartsPath = "spec.charts"

// compareCharts records which charts are added, changed and removed, by their names.
func (c *comparison) compareCharts(was, is []spec.Chart) {
	row := findField(c.table.Fields, chartsPath)
	byName := func(charts []spec.Chart) map[string]spec.Chart {
		all := map[string]spec.Chart{}
		for _, chart := range charts {
			all[chart.Name] = chart
		}
		return all
	}
	before, after := byName(was), byName(is)
	names := maps.Clone(before)
	maps.Copy(names, after)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, had := before[name]
		chart, has := after[name]
		path := chartsPath + "." + name
		switch {
		case !has:
			c.changes = append(c.changes, Change{Field: path, Was: old.Version, Is: absent, Effect: row.On, Note: row.Lost})
		case !had:
			c.changes = append(c.changes, Change{Field: path, Was: absent, Is: chart.Version, Effect: row.On})
		case old.Namespace != chart.Namespace:
			c.refusals = append(c.refusals, Refusal{Subject: path + ".namespace", Was: old.Namespace, Is: chart.Namespace, Exit: problem.ExitConfig,
				Reason: "cannot be changed because the release and its volumes are in it", Fix: "keep the old namespace, or give the chart another name, which installs a second release"})
		default:
			c.compareChart(path, old, chart)
		}
	}
}

// compareChart records the differences of a chart, whose path is path.
func (c *comparison) compareChart(path string, was, is spec.Chart) {
	row := findField(c.table.Fields, chartsPath)
	c.compareValue(row, path+".chart", was.Chart, is.Chart)
	c.compareValue(row, path+".version", was.Version, is.Version)
	if paths := differingPaths(was.Values, is.Values); len(paths) > 0 { // values can hold secrets
		c.changes = append(c.changes, Change{Field: path + ".values", Was: hidden, Is: hidden, Effect: row.On, Note: "differing: " + strings.Join(paths, ", ")})
	}
}

// maxDifferingPaths is the number of values that a change names.
const maxDifferingPaths = 8

// differingPaths returns the paths of the values that differ, sorted; after some of them, "…".
func differingPaths(was, is map[string]any) (paths []string) {
	before, after := flatten(was), flatten(is)
	all := maps.Clone(before)
	maps.Copy(all, after)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		a, had := before[path]
		b, has := after[path]
		if a == b && had == has {
			continue
		}
		if len(paths) == maxDifferingPaths {
			return append(paths, "…")
		}
		paths = append(paths, path)
	}
	return paths
}
