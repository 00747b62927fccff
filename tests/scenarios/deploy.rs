//! install, deploy, deploy-sha.

use crate::world::World;

#[test]
fn an_install_and_a_deploy_serve_the_newest_image() {
    let mut world = World::installed("v1");
    world.serves("v1");
    world.deploy("v2").succeeds().serves("v2");
}
