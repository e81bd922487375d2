"""Pod life: the lab's named stand-in for containers on bare nodes.

Hollow kubelets run nothing: their containers never end, log or answer. On *bare* nodes (label
``lab.gpumem.io/bare=true``) this one process plays the kubelet and the containers instead: phases,
readiness, exit codes, log text, an HTTP endpoint per declared port, GPU memory that is used while
the pod runs and freed at its end. No image is pulled and no command runs. Whatever a test or the
demo shows on a bare node rests on this stand-in, and says so.

Behaviour comes from the pod's annotations, see `lab.pod_life.behaviour`; a CronJob's run ends
by itself.
"""
