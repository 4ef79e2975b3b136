package problem

import (
	"cmp"
	"encoding/json"
	"reflect"
	"strings"
)

// DescribeTypeError returns what is wrong in a type error of the JSON decoder in the terms of
// YAML, such as "must be a list, found text". It completes a sentence that begins with the key.
func DescribeTypeError(err *json.UnmarshalTypeError) string {
	found, number, _ := strings.Cut(err.Value, " ")
	names := map[string]string{"string": "text", "number": "a number", "bool": "true or false", "array": "a list", "object": "a mapping"}
	want := "a mapping"
	t := err.Type
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		want = "text"
	case reflect.Bool:
		want = "true or false"
	case reflect.Slice:
		want = "a list"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		want = "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		want = "a whole number from 0"
	case reflect.Float32, reflect.Float64:
		want = "a number"
	}
	return "must be " + want + ", found " + cmp.Or(number, names[found])
}
