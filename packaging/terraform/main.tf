# Instances that install themselves and need no SSH: an Auto Scaling group of one or more, behind a load balancer or
# open to the world. README.md has an example.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 5.0, < 7.0" }
  }
}

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  from_balancer = var.balancer_security_group_id != null
  arn           = "arn:${data.aws_partition.this.partition}"
  here          = "${data.aws_region.this.name}:${data.aws_caller_identity.this.account_id}"

  # Strings, numbers and lists are the same in JSON and TOML.
  cron_jobs = join("", [for job in var.cron_jobs :
    format("\n[[cron_jobs]]\n%s\n", join("\n", [for key, value in job : "${key} = ${jsonencode(value)}"]))
  ])

  # The parts of script.sh to fill in.
  script       = file("${path.module}/../user-data/script.sh")
  example_url  = "https://example.com/astra-agent_amd64.deb"
  example_sha  = "0000000000000000000000000000000000000000000000000000000000000000"
  example_toml = "[app]\nimage = \"ghcr.io/you/shop:latest\"\n\n[caddy]\nhosts = [\"shop.example.com\"]\n"
  agent_toml   = "${trimspace(var.agent_toml)}\n${local.cron_jobs}"
  user_data = replace(replace(replace(local.script,
    local.example_toml, local.agent_toml),
    local.example_url, var.agent_url),
  local.example_sha, var.agent_sha256)
}

resource "aws_launch_template" "this" {
  name_prefix            = "${var.name}-"
  image_id               = var.ami_id
  instance_type          = var.instance_type
  user_data              = base64encode(local.user_data)
  update_default_version = true
  vpc_security_group_ids = [aws_security_group.this.id]

  iam_instance_profile {
    arn = aws_iam_instance_profile.this.arn
  }

  # Containers of the app must not get the role of the instance: an answer travels one hop, and theirs is the second.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = var.root_device
    ebs {
      volume_size = var.root_gib
      volume_type = "gp3"
      encrypted   = true
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = var.name, astra = var.name } # `astra`: the workflow and its policy find them by it
  }
}

resource "aws_autoscaling_group" "this" {
  name_prefix         = "${var.name}-"
  min_size            = var.instances
  max_size            = var.instances + 1
  desired_capacity    = var.instances
  vpc_zone_identifier = var.subnet_ids
  target_group_arns   = [aws_lb_target_group.this.arn]
  # Not "ELB": with the database down, every instance would be replaced again and again. The balancer sends an
  # unready host no requests either way.
  health_check_type = "EC2"

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }
}

# Attach it to a listener of the balancer. Without one it costs nothing.
resource "aws_lb_target_group" "this" {
  name_prefix          = "astra-"
  vpc_id               = var.vpc_id
  port                 = 80
  protocol             = "HTTP"
  deregistration_delay = 30

  health_check {
    path     = var.health_path
    matcher  = "200"
    interval = 10
  }

  lifecycle {
    create_before_destroy = true
  }
}

# No SSH: `aws ssm start-session` where a shell is needed.
resource "aws_security_group" "this" {
  name_prefix = "${var.name}-"
  vpc_id      = var.vpc_id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  count                        = local.from_balancer ? 1 : 0
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = var.balancer_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 80
  to_port                      = 80
}

resource "aws_vpc_security_group_ingress_rule" "world" {
  for_each          = local.from_balancer ? toset([]) : toset(["80", "443"])
  security_group_id = aws_security_group.this.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.value)
  to_port           = tonumber(each.value)
}

resource "aws_vpc_security_group_egress_rule" "all" {
  security_group_id = aws_security_group.this.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}
