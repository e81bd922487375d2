// Package actionlint pins the program that lab/policy_tools.py builds; it is never compiled itself.
package actionlint

import _ "github.com/rhysd/actionlint/cmd/actionlint"
