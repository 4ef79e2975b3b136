package config

import "github.com/plinthdev/plinth/addons"

// AddOnList is the list of the add-ons that this build knows. Its JSON format is public.
type AddOnList struct {
	AddOns []addons.Info `json:"addons"`
}

// AddOnInfo describes one add-on. Its JSON format is public.
type AddOnInfo = addons.Info

// ListAddOns returns the add-ons that this build knows.
func ListAddOns() (AddOnList, error) {
	all, err := addons.Catalog()
	return AddOnList{all}, err
}

// DescribeAddOn returns an add-on with the images of a version; for "" those of the newest.
func DescribeAddOn(name, version string) (AddOnInfo, error) { return addons.Describe(name, version) }
