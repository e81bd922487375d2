// Package karpenter pins the program that lab/karpenter.py builds; it is never compiled itself.
package karpenter

import _ "sigs.k8s.io/karpenter/kwok"
