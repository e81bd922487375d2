"""The two providers, and the versions that the estate allows."""

from __future__ import annotations

from cdktf import TerraformProvider, TerraformProviderGeneratorMetadata, TerraformStack

from helpers.domain.estate.model import Terraform


def add_providers(stack: TerraformStack, terraform: Terraform) -> None:
    """`required_version`, `alekc/kubectl` and `hashicorp/null`.

    Neither block names a cluster. The kubectl provider reads `KUBECONFIG` and, where it is not set,
    `~/.kube/config`, as kubectl and the steps do; a plan without any kubeconfig needs
    `KUBE_LAZY_LOAD=true` in the environment.
    """
    stack.add_override("terraform.required_version", terraform.required_version)
    for name, source, constraint in (
        ("kubectl", "alekc/kubectl", terraform.kubectl_provider),
        ("null", "hashicorp/null", terraform.null_provider),
    ):
        TerraformProvider(
            stack,
            f"provider-{name}",
            terraform_resource_type=name,
            terraform_provider_source=source,
            terraform_generator_metadata=TerraformProviderGeneratorMetadata(
                provider_name=name, provider_version_constraint=constraint
            ),
        )
