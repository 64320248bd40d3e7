<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" nodataColor="" classificationMin="0" classificationMax="1">
      <rastershader>
        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="0" maximumValue="1">
          <item value="0" label="0" color="#ffffb2" alpha="0"/>
          <item value="0.1" label="0.1" color="#fed976" alpha="90"/>
          <item value="0.3" label="0.3" color="#fd8d3c" alpha="160"/>
          <item value="0.6" label="0.6" color="#f03b20" alpha="210"/>
          <item value="1" label="1" color="#bd0026" alpha="255"/>
        </colorrampshader>
      </rastershader>
    </rasterrenderer>
  </pipe>
</qgis>
