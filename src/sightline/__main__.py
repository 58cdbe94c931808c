from sightline.cli.main import main

main()
