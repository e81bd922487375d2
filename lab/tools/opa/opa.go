// Package opa pins the program that lab/policy_tools.py builds; it is never compiled itself.
package opa

import _ "github.com/open-policy-agent/opa"
